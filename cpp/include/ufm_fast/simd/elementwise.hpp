#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "ufm_fast/simd/packets.hpp"

namespace ufm_fast::elementwise {

// One pass each over a row of numbers, vectorised with Eigen's packets.
// Reductions run in four independent chains, so that they wait for memory and not for the previous addition.

namespace detail {

using simd::lanes;
using simd::Packet;
constexpr int chains = 4;

/// Calls body(position, chain) for all full packets of [0, size) and returns where the remainder starts.
template <class T, class Body>
Index for_each_packet(Index size, Body&& body) {
  Index i = 0;
  for (; i + chains * lanes<T> <= size; i += chains * lanes<T>) {
    for (int chain = 0; chain < chains; ++chain) body(i + chain * lanes<T>, chain);
  }
  for (; i + lanes<T> <= size; i += lanes<T>) body(i, 0);
  return i;
}

template <class T, class Combine>
Packet<T> combine_chains(const Packet<T> (&part)[chains], Combine&& combine) {
  return combine(combine(part[0], part[1]), combine(part[2], part[3]));
}

}  // namespace detail

/// How the scores z of a sample become logits, scale z + b; b is null without bias. The same bits come out wherever it
/// is done.
template <class T>
struct Affine {
  T scale;
  const T* b;

  /// The same from entry i on.
  Affine from(Index i) const { return {scale, b != nullptr ? b + i : nullptr}; }

  EIGEN_ALWAYS_INLINE simd::Packet<T> packet_at(const T* z, Index i) const {
    using P = simd::Packet<T>;
    const P factor = simd::pset1<P>(scale);
    const P shift = b != nullptr ? simd::ploadu<P>(b + i) : simd::pzero(factor);
    return simd::pmadd(factor, simd::ploadu<P>(z + i), shift);
  }

  T at(const T* z, Index i) const {
    using P = simd::Packet<T>;
    const P shift = simd::pset1<P>(b != nullptr ? b[i] : T(0));
    return simd::pfirst(simd::pmadd(simd::pset1<P>(scale), simd::pset1<P>(z[i]), shift));
  }

  /// z = scale z + b
  void apply(T* z, Index size) const {
    const Index rest = detail::for_each_packet<T>(size, [&](Index i, int) { simd::pstoreu(z + i, packet_at(z, i)); });
    for (Index i = rest; i < size; ++i) z[i] = at(z, i);
  }
};

/// The largest entry of the logits.
template <class T>
T largest_logit(const T* z, Index size, Affine<T> affine) {
  using namespace detail;
  using P = Packet<T>;
  P largest[chains];
  for (P& part : largest) part = simd::pset1<P>(-std::numeric_limits<T>::infinity());
  const Index rest = for_each_packet<T>(
      size, [&](Index i, int chain) { largest[chain] = simd::pmax(largest[chain], affine.packet_at(z, i)); });
  T result = simd::predux_max(combine_chains<T>(largest, [](const P& x, const P& y) { return simd::pmax(x, y); }));
  for (Index i = rest; i < size; ++i) result = std::max(result, affine.at(z, i));
  return result;
}

namespace detail {

/// Values of exp below this are taken as zero: a weight could make them subnormal, and products with subnormal numbers
/// are many times slower.
template <class T>
inline constexpr T least_power = std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon();

/// The constants of `exp_of_negative`: 3/2 2^p, where p are the bits of a number behind the first; log 2 in two parts,
/// the product of the first with an integer of the size that occurs exact; the coefficients, from the highest power on,
/// of the polynomial with the smallest largest error, relative to exp between -log(2)/2 and log(2)/2, among those that
/// begin 1 + x; and the number below which exp is less than least_power.
template <class T>
struct ExpConstants;

template <>
struct ExpConstants<float> {  // to within 4e-9
  static constexpr float shifter = 12582912.0f, log2_first = 0.693359375f, log2_rest = -2.12194440e-4f;
  static constexpr float powers[] = {0.00138145406f, 0.00836874545f, 0.041668389f, 0.166665211f, 0.49999994f, 1, 1};
  static constexpr float least = -71.3f;
};

template <>
struct ExpConstants<double> {  // to within 4e-18
  static constexpr double shifter = 6755399441055744.0;
  static constexpr double log2_first = 0.693145751953125, log2_rest = 1.42860682030941723212e-6;
  static constexpr double powers[] = {2.5000079958083365e-08,
                                      2.763023524869801e-07,
                                      2.755758624925749e-06,
                                      2.4801493132275274e-05,
                                      0.00019841269506788158,
                                      0.0013888888943601673,
                                      0.008333333333494336,
                                      0.04166666666653025,
                                      0.16666666666666413,
                                      0.5000000000000011,
                                      1,
                                      1};
  static constexpr double least = -672.35;
};

/// exp(x) for x <= 0, to within about one unit in the last place, or zero where that is below least_power.
template <class T>
Packet<T> exp_of_negative(Packet<T> x) {
  using P = Packet<T>;
  using C = ExpConstants<T>;
  // x = n log 2 + r; adding `shifter` rounds to an integer and leaves it in the lowest bits
  const P shifter = simd::pset1<P>(C::shifter);
  const P shifted = simd::pmadd(x, simd::pset1<P>(T(1.4426950408889634)), shifter);
  const P n = simd::psub(shifted, shifter);
  const P r = simd::pmadd(n, simd::pset1<P>(-C::log2_rest), simd::pmadd(n, simd::pset1<P>(-C::log2_first), x));
  P power = simd::pset1<P>(C::powers[0]);
  for (std::size_t i = 1; i < std::size(C::powers); ++i) {
    power = simd::pmadd(power, r, simd::pset1<P>(C::powers[i]));
  }
  return simd::pand(simd::times_power_of_two(power, shifted), simd::pcmp_le(simd::pset1<P>(C::least), x));
}

}  // namespace detail

/// z = exp(logits - shift), for a shift that no logit is above, or zero where that is below `least_power`. Returns the
/// sum.
template <class T>
T exp_sum(T* z, Index size, Affine<T> affine, T shift) {
  using namespace detail;
  using P = Packet<T>;
  const P offset = simd::pset1<P>(shift);
  P sum[chains];
  for (P& part : sum) part = simd::pzero(part);
  const Index rest = for_each_packet<T>(size, [&](Index i, int chain) {
    const P value = exp_of_negative<T>(simd::psub(affine.packet_at(z, i), offset));
    simd::pstoreu(z + i, value);
    sum[chain] = simd::padd(sum[chain], value);
  });
  T result = simd::predux(combine_chains<T>(sum, [](const P& x, const P& y) { return simd::padd(x, y); }));
  for (Index i = rest; i < size; ++i) {
    const T power = std::exp(affine.at(z, i) - shift);
    z[i] = power >= least_power<T> ? power : T(0);
    result += z[i];
  }
  return result;
}

/// Turns logits z into shares: the lesser of p = 1 / (1 + exp(-z)) and 1 - p, negative where that is 1 - p. A share is
/// at least `least_power`, so that its sign is never lost. Returns the sum of log(1 + exp(-|z|)). One
/// logarithm serves for several terms, that of the product of all 1 + x, kept less one so that small x lose no digits.
template <class T>
T logistic(T* z, Index size) {
  using namespace detail;
  using P = Packet<T>;
  const P one = simd::pset1<P>(T(1)), least = simd::pset1<P>(least_power<T>);
  constexpr Index stride = chains * lanes<T>, terms = 8;
  P sum[chains], product[chains];
  for (int chain = 0; chain < chains; ++chain) sum[chain] = product[chain] = simd::pzero(one);
  const auto take_logarithm = [&](int chain) {
    sum[chain] = simd::padd(sum[chain], simd::generic_plog1p(product[chain]));
    product[chain] = simd::pzero(one);
  };
  const Index rest = for_each_packet<T>(size, [&](Index i, int chain) {
    const P x = simd::ploadu<P>(z + i);
    const P power = exp_of_negative<T>(simd::pnegate(simd::pabs(x)));
    const P share = simd::pmax(simd::pdiv(power, simd::padd(one, power)), least);
    simd::pstoreu(z + i, simd::pselect(simd::pcmp_lt(simd::pzero(x), x), simd::pnegate(share), share));
    product[chain] = simd::pmadd(product[chain], power, simd::padd(product[chain], power));
    if (i / stride % terms == terms - 1) take_logarithm(chain);
  });
  for (int chain = 0; chain < chains; ++chain) take_logarithm(chain);
  T result = simd::predux(combine_chains<T>(sum, [](const P& x, const P& y) { return simd::padd(x, y); }));
  for (Index i = rest; i < size; ++i) {
    const T exact = std::exp(-std::abs(z[i])), power = exact >= least_power<T> ? exact : T(0);
    const T share = std::max(power / (T(1) + power), least_power<T>);
    z[i] = z[i] > T(0) ? -share : share;
    result += std::log1p(power);
  }
  return result;
}

/// sum of p_i (d_i - shift)
template <class T>
T shifted_dot(const T* p, const T* d, Index size, T shift) {
  using namespace detail;
  using P = Packet<T>;
  const P offset = simd::pset1<P>(shift);
  P sum[chains];
  for (P& part : sum) part = simd::pzero(part);
  const Index rest = for_each_packet<T>(size, [&](Index i, int chain) {
    sum[chain] = simd::pmadd(simd::ploadu<P>(p + i), simd::psub(simd::ploadu<P>(d + i), offset), sum[chain]);
  });
  T result = simd::predux(combine_chains<T>(sum, [](const P& x, const P& y) { return simd::padd(x, y); }));
  for (Index i = rest; i < size; ++i) result += p[i] * (d[i] - shift);
  return result;
}

/// Row i of X becomes scales[i] weights[i] X_i, and weights[i] X_i is added to `sum`. X has at most `weighed_rows`
/// rows: over so many the sum is taken in T, and beyond in double, because over all rows of data most of it cancels.
inline constexpr Index weighed_rows = 8;

template <class T>
void weigh(MatrixView<T> X, const T* weights, const T* scales, double* sum) {
  constexpr Index columns = 256;
  for (Index first = 0; first < X.cols; first += columns) {
    const Index count = std::min(columns, X.cols - first);
    T part[columns] = {};
    for (Index i = 0; i < X.rows; ++i) {
      T* const x = X.row(i) + first;
      const T weight = weights[i], scale = scales[i];
      for (Index j = 0; j < count; ++j) {
        const T weighed = weight * x[j];
        part[j] += weighed;
        x[j] = scale * weighed;
      }
    }
    for (Index j = 0; j < count; ++j) sum[first + j] += double(part[j]);
  }
}

}  // namespace ufm_fast::elementwise

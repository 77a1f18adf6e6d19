#pragma once

#include <cmath>
#include <limits>

namespace ufm_fast {

/// What -log(g(hi - z) - g(lo - z)) and its derivatives are at one (z, lo, hi), for a distribution function g. Its
/// second derivative along (dz, dlo, dhi) is
///
///     at_hi (dz - dhi)^2 + at_lo (dz - dlo)^2 + between (dhi - dlo)^2,
///
/// no term of which is negative where g' is log-concave. Each number keeps its relative accuracy, but for what a
/// rounding of z, lo and hi does to it.
struct IntervalTerms {
  double loss;
  double slope;         ///< the derivative with respect to z
  double of_hi, of_lo;  ///< those with respect to hi and lo, without the sign: the first is negative
  double at_hi, at_lo, between;

  /// What they are where hi is not above lo.
  static IntervalTerms of_empty_interval() {
    constexpr double nan = std::numeric_limits<double>::quiet_NaN();
    return {std::numeric_limits<double>::infinity(), nan, nan, nan, nan, nan, nan};
  }
};

/// The logistic distribution function 1 / (1 + exp(-x)).
struct LogitLink {
  /// g(u) - g(v) = g(u) g(-v) (1 - exp(v - u)) for u = hi - z, v = lo - z.
  static IntervalTerms terms(double z, double lo, double hi) {
    const double width = hi - lo, above = z - hi, below = lo - z;
    if (!(width > 0)) return IntervalTerms::of_empty_interval();
    const double p = sigmoid(above), q = sigmoid(below), ratio = 1 / std::expm1(width);
    const double slope = above >= below ? -std::expm1(below - above) * p * sigmoid(-below)
                                        : std::expm1(above - below) * q * sigmoid(-above);
    return {softplus(above) + softplus(below) - log_one_minus_exp(width),
            slope,
            p + ratio,
            q + ratio,
            p * sigmoid(-above),
            q * sigmoid(-below),
            ratio * (1 + ratio)};
  }

 private:
  static double sigmoid(double x) {
    if (x >= 0) return 1 / (1 + std::exp(-x));
    const double power = std::exp(x);
    return power / (1 + power);
  }
  /// log(1 + exp(x))
  static double softplus(double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }
  /// log(1 - exp(-x))
  static double log_one_minus_exp(double x) { return x > 0.7 ? std::log1p(-std::exp(-x)) : std::log(-std::expm1(-x)); }
};

/// The normal distribution function. With X normal between v = lo - z and u = hi - z, the derivative with respect to z
/// is minus the mean of X, and the coefficients of the second derivative are the densities of X at the two ends times
/// the distances of the mean from them.
class ProbitLink {
 public:
  static IntervalTerms terms(double z, double lo, double hi) {
    const double width = hi - lo, v = lo - z, u = hi - z;
    if (!(width > 0)) return IntervalTerms::of_empty_interval();
    if (u + v >= 0) {
      const Truncated X = truncated(v, u, width);
      return {X.loss, -X.mean, X.far, X.near, X.far_moment(), X.near_moment(), X.near * X.far};
    }
    const Truncated X = truncated(-u, -v, width);
    return {X.loss, X.mean, X.near, X.far, X.near_moment(), X.far_moment(), X.near * X.far};
  }

 private:
  static constexpr double log_root_two_pi = 0.918938533204672741780329736406,
                          root_half = 0.707106781186547524400844362105, root_half_pi = 1.25331413731550025120788264241,
                          continued_from = 2.5;

  /// A normal variable between a near end x and a far end y, |x| <= y: minus the logarithm of the probability of that,
  /// and then its mean, its densities at the ends and how far these are from the mean.
  struct Truncated {
    double loss, mean, near, far, to_near, to_far;

    double near_moment() const { return near * to_near; }
    double far_moment() const { return far > 0 ? far * to_far : 0.0; }
  };

  /// Mills' ratio R(x) = (1 - g(x)) / g'(x) and 1/R(x) - x, for x >= 0.
  struct Mills {
    double ratio, excess;

    explicit Mills(double x) {
      if (x < continued_from) {
        ratio = root_half_pi * std::exp(x * x / 2) * std::erfc(x * root_half);
        excess = 1 / ratio - x;
        return;
      }
      excess = 0;  // Laplace's continued fraction 1/(x + 2/(x + 3/(x + ...
      for (int n = x < 10 ? 60 : 12; n > 0; --n) excess = n / (x + excess);
      ratio = 1 / (x + excess);
    }
  };

  static Truncated truncated(double x, double y, double width) {
    const double fall = width * (x + y) / 2;  // log g'(x) - log g'(y)
    if (width < 1 && fall < 0.5) return narrow((x + y) / 2, width, fall);
    return x < 0 ? around_zero(x, y, fall) : in_tail(x, y, width, fall);
  }

  /// From the power series of exp(-c t - h^2 t^2 / 2), t in [-1, 1], integrated term by term: the density, over that at
  /// the middle.
  static Truncated narrow(double middle, double width, double fall) {
    const double h = width / 2, c = fall / 2;
    double before = 0, term = 1, integral = 0, moment = 0;
    for (int n = 0; n < 20; n += 2) {
      integral += term / (n + 1);
      const double odd = (-c * term - h * h * before) / (n + 1);
      moment += odd / (n + 3);
      before = odd;
      term = (-c * odd - h * h * term) / (n + 2);
    }
    const double shift = h * moment / integral, at_end = std::exp(-h * h / 2) / (width * integral);
    return {middle * middle / 2 + log_root_two_pi - std::log(width) - std::log(integral),
            middle + shift,
            at_end * std::exp(c),
            at_end * std::exp(-c),
            h + shift,
            h - shift};
  }

  static Truncated around_zero(double x, double y, double fall) {
    const double outside = (std::erfc(-x * root_half) + std::erfc(y * root_half)) / 2;
    const double inside = (std::erf(-x * root_half) + std::erf(y * root_half)) / 2;
    const double loss = outside < 0.5 ? -std::log1p(-outside) : -std::log(inside);
    const double near = std::exp(-x * x / 2 - log_root_two_pi) / inside;
    const double mean = -near * std::expm1(-fall);
    return {loss, mean, near, near * std::exp(-fall), mean - x, y - mean};
  }

  /// By Mills' ratios. Where x is large, the distance from the near end does not come from the mean.
  static Truncated in_tail(double x, double y, double width, double fall) {
    const Mills at_x(x);
    const double power = std::exp(-fall);
    double integral = at_x.ratio, moment = at_x.ratio * at_x.excess;
    if (power > 0) {
      const Mills at_y(y);
      integral -= power * at_y.ratio;
      moment -= power * at_y.ratio * (at_y.excess + width);
    }
    const double to_near = x < continued_from ? -std::expm1(-fall) / integral - x : moment / integral;
    return {x * x / 2 + log_root_two_pi - std::log(integral),
            x + to_near,
            1 / integral,
            power / integral,
            to_near,
            width - to_near};
  }
};

}  // namespace ufm_fast

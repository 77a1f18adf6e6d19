// Ordinal losses: their functions of one row against long double arithmetic, the drivers against differences.
#include <ufm_fast/losses/ordinal.hpp>

#include "differences.hpp"

namespace {

using namespace ufm_fast;
using namespace ufm_fast::tests;

/// Derivatives of -log(g(hi - z) - g(lo - z)) from g and its first two derivatives, for intervals where these do not
/// cancel much.
struct Expected {
  long double loss, slope, of_hi, of_lo, at_hi, at_lo, between;
};

template <class Distribution>
Expected expected(long double z, long double lo, long double hi, Distribution&& distribution) {
  if (lo + hi > 2 * z) {  // where g is near one, by symmetry
    const Expected e = expected(-z, -hi, -lo, distribution);
    return {e.loss, -e.slope, e.of_lo, e.of_hi, e.at_lo, e.at_hi, e.between};
  }
  const auto [upper, upper_density, upper_slope] = distribution(hi - z);
  const auto [lower, lower_density, lower_slope] = distribution(lo - z);
  const long double p = upper - lower, u = upper_density / p, v = lower_density / p;
  const long double uu = u * u - upper_slope / p, vv = v * v + lower_slope / p, between = u * v;
  return {-std::log(p), u - v, u, v, uu - between, vv - between, between};
}

struct Value {
  long double value, density, slope;
};

Value logistic(long double x) {
  const long double p = 1 / (1 + std::exp(-x)), density = p * (1 - p);
  return {p, density, density * (1 - 2 * p)};
}

Value normal(long double x) {
  const long double density = std::exp(-x * x / 2) / std::sqrt(2 * std::acos(-1.0L));
  return {std::erfc(-x / std::sqrt(2.0L)) / 2, density, -x * density};
}

template <class Link, class Distribution>
void compare_terms(Distribution&& distribution) {
  for (const double lo : {-2.0, -0.5, 0.0, 1.5}) {
    for (const double width : {0.25, 0.75, 1.5, 4.0}) {
      for (const double z : {-3.0, -1.0, 0.0, 0.125, 2.0}) {
        const IntervalTerms terms = Link::terms(z, lo, lo + width);
        const Expected e = expected(z, lo, lo + width, distribution);
        const double tolerance = 1e-13;
        check_close(terms.loss, double(e.loss), tolerance, "loss of an interval");
        check_close(1 + terms.slope, 1 + double(e.slope), tolerance, "its slope");
        check_close(terms.of_hi, double(e.of_hi), tolerance, "its derivative in hi");
        check_close(terms.of_lo, double(e.of_lo), tolerance, "its derivative in lo");
        check_close(terms.at_hi, double(e.at_hi), tolerance, "its curvature at hi");
        check_close(terms.at_lo, double(e.at_lo), tolerance, "its curvature at lo");
        check_close(terms.between, double(e.between), tolerance, "its curvature between hi and lo");
      }
    }
  }
}

template <class Link>
void compare_tails() {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double z : {-50.0, -3.0, 0.0, 3.0, 50.0}) {
    const IntervalTerms above = Link::terms(z, 0.5, infinity), below = Link::terms(-z, -infinity, -0.5);
    check_close(above.loss, below.loss, 1e-15, "the loss is symmetric");
    check_close(above.slope, -below.slope, 1e-15, "its slope is antisymmetric");
    check_close(above.at_lo, below.at_hi, 1e-15, "its curvature is symmetric");
    check(above.at_hi == 0 && above.of_hi == 0 && above.between == 0, "nothing depends on an infinite threshold");
  }
  check(Link::terms(0, 1, 1).loss == infinity, "an empty interval has no probability");
}

void compare_drivers(const std::string& link, bool learned) {
  const Index levels = 5;
  const std::vector<double> thresholds{-2.5, -1.0, -0.25, 0.5, 2.0, 3.0};
  for (const bool bias : {true, learned}) {
    const auto loss = make_ordinal<double>(levels, learned ? std::vector<double>{} : thresholds, link);
    const Model<double> model({levels, 4, 33}, loss, bias);
    Arrays<double> p = model.random_point(1);
    if (learned) p.b << -1.5, -0.5, 0.5, 1.25;
    compare_with_differences(model, p, 1e-9);
  }
}

}  // namespace

int main() {
  compare_terms<LogitLink>(logistic);
  compare_terms<ProbitLink>(normal);
  compare_tails<LogitLink>();
  compare_tails<ProbitLink>();
  for (const char* link : {"logit", "probit"}) {
    compare_drivers(link, false);
    compare_drivers(link, true);
  }
  return ufm_fast::tests::failures();
}

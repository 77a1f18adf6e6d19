// At W = H = 0 every logit is zero: the loss is log K and the gradient zero.
#include <algorithm>
#include <cmath>
#include <ufm_fast/ufm_fast.hpp>

int main() {
  using namespace ufm_fast;
  const Index K = 7, d = 3, M = 5;
  const Problem<double> problem{K,
                                d,
                                M,
                                std::make_shared<const Targets<double>>(Targets<double>::of_labels(K, {0, 1, 2, 3, 6})),
                                std::vector<double>(M, 0.2),
                                std::vector<double>(M, 1.0),
                                std::vector<double>(M, 1e-3),
                                make_loss<double>("cross_entropy", K, {{"label_smoothing", 0.0}}),
                                1e-3,
                                0.0,
                                false};
  std::vector<double> zeros(K * d + M * d + K), gradient(zeros.size(), NAN);
  const auto view = [&](std::vector<double>& x) {
    return PointView<double>{{x.data(), K, d}, {x.data() + K * d, M, d}, x.data() + K * d + M * d};
  };
  const double value = loss_and_gradient<double>(problem, view(zeros), view(gradient), Execution{2});
  const bool flat = std::all_of(gradient.begin(), gradient.end(), [](double entry) { return entry == 0; });
  return std::abs(value - std::log(7)) <= 1e-15 && flat ? 0 : 1;
}

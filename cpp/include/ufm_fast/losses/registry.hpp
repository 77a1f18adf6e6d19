#pragma once

#include <cmath>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ufm_fast/losses/affine_cross_entropy.hpp"
#include "ufm_fast/losses/binary_cross_entropy.hpp"
#include "ufm_fast/losses/cross_entropy.hpp"
#include "ufm_fast/losses/focal.hpp"
#include "ufm_fast/losses/grouped_cross_entropy.hpp"
#include "ufm_fast/losses/ordinal.hpp"
#include "ufm_fast/losses/squared_error.hpp"

namespace ufm_fast {

/// Parameters by name: numbers, vectors and words.
using LossParameters = std::map<std::string, std::variant<double, std::vector<double>, std::string>>;

namespace detail {

/// Hands out the parameters of a loss by name; one that is missing, refused, or left over at the end, is an exception.
class ParameterReader {
 public:
  ParameterReader(const std::string& loss, const LossParameters& parameters) : loss_(loss), left_(parameters) {}

  /// A number in [0, most]; zero where the parameter is missing.
  double number_or_zero(const std::string& name, double most) {
    return left_.count(name) == 0 ? 0.0 : number(name, most);
  }

  /// A number in [0, most].
  double number(const std::string& name, double most) {
    const auto found = left_.find(name);
    if (found == left_.end()) refuse("must hold " + name);
    const double* value = std::get_if<double>(&found->second);
    if (value == nullptr) refuse("must have a number for " + name);
    if (!(*value >= 0 && *value <= most && std::isfinite(*value))) {
      const bool bounded = std::isfinite(most);
      refuse("need " + name +
             (bounded ? " in [0, " + std::to_string(static_cast<int>(most)) + "]" : " finite, at least 0"));
    }
    const double result = *value;
    left_.erase(found);
    return result;
  }

  /// K finite numbers, or none where the parameter is missing.
  template <class T>
  std::vector<T> vector(const std::string& name, Index K) {
    const auto found = left_.find(name);
    if (found == left_.end()) return {};
    const auto* values = std::get_if<std::vector<double>>(&found->second);
    if (values == nullptr || static_cast<Index>(values->size()) != K) {
      refuse("must have a number for each of the " + std::to_string(K) + " logits in " + name);
    }
    const std::vector<T> result(values->begin(), values->end());
    if (!all_finite(result.data(), K)) refuse("must be finite, but not so " + name);
    left_.erase(found);
    return result;
  }

  /// Any numbers, or none where the parameter is missing.
  std::vector<double> numbers(const std::string& name) {
    const auto found = left_.find(name);
    if (found == left_.end()) return {};
    const auto* values = std::get_if<std::vector<double>>(&found->second);
    if (values == nullptr || values->empty()) refuse("must have numbers for " + name);
    std::vector<double> result = *values;
    left_.erase(found);
    return result;
  }

  std::string word(const std::string& name) {
    const auto found = left_.find(name);
    if (found == left_.end()) refuse("must hold " + name);
    const auto* value = std::get_if<std::string>(&found->second);
    if (value == nullptr) refuse("must have a word for " + name);
    std::string result = *value;
    left_.erase(found);
    return result;
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw std::invalid_argument("parameters of " + loss_ + " " + what);
  }

  void finish() const {
    if (!left_.empty()) refuse("must not hold " + left_.begin()->first);
  }

 private:
  std::string loss_;
  LossParameters left_;
};

template <class T>
LossPointer<T> make_cross_entropy(Index K, ParameterReader& reader) {
  const CrossEntropy<T> plain{K, T(reader.number_or_zero("label_smoothing", 1))};
  std::vector<T> scale = reader.vector<T>("scale", K), shift = reader.vector<T>("shift", K);
  std::vector<T> margin = reader.vector<T>("margin", K);
  for (const T s : scale) {
    if (!(s > T(0))) reader.refuse("must be positive, but not so scale");
  }
  if (scale.empty() && shift.empty() && margin.empty()) return loss_of(plain);
  return loss_of(AffineCrossEntropy<T>(plain, std::move(scale), std::move(shift), std::move(margin)));
}

/// Classes of K groups: `blocks`, `size` and `miss` of each.
template <class T>
LossPointer<T> make_grouped_cross_entropy(Index K, ParameterReader& reader) {
  const T smoothing = T(reader.number("label_smoothing", 1));
  std::vector<double> vectors[5];
  const char* names[] = {"blocks", "size", "miss", "scale", "shift"};
  for (int i = 0; i < 5; ++i) {
    vectors[i] = reader.vector<double>(names[i], K);
    if (vectors[i].empty()) reader.refuse(std::string("must hold ") + names[i]);
    const double least = i < 2 ? 1 : std::numeric_limits<double>::min();
    for (const double value : vectors[i]) {
      if (i < 4 && value < least) reader.refuse(std::string("must be positive, but not so ") + names[i]);
    }
  }
  std::vector<ExchangeableGroup> groups;
  for (Index k = 0; k < K; ++k) groups.push_back({vectors[0][k], vectors[1][k], vectors[2][k]});
  return loss_of(GroupedCrossEntropy<T>(smoothing, std::move(groups),
                                        std::vector<T>(vectors[3].begin(), vectors[3].end()),
                                        std::vector<T>(vectors[4].begin(), vectors[4].end())));
}

}  // namespace detail

/// The loss of this name. An std::invalid_argument refuses an unknown name and unknown, missing or impossible
/// parameters.
///
///     "cross_entropy"   label_smoothing in [0, 1], zero if not given; scale, shift and margin, K numbers each or not
///                       given
///     "grouped_cross_entropy"
///                       label_smoothing; blocks, size, miss, scale and shift, K numbers each
///     "mse"             no parameters
///     "bce"             label_smoothing in [0, 1], zero if not given
///     "focal"           gamma, at least 0
///     "ordinal"         link, "logit" or "probit"; thresholds, not given where they are learned: see make_ordinal
template <class T>
LossPointer<T> make_loss(const std::string& name, Index K, const LossParameters& parameters = {}) {
  if (K < 1) throw std::invalid_argument("K must be positive, not " + std::to_string(K));
  detail::ParameterReader reader(name, parameters);
  LossPointer<T> loss;
  if (name == "cross_entropy") {
    loss = detail::make_cross_entropy<T>(K, reader);
  } else if (name == "grouped_cross_entropy") {
    loss = detail::make_grouped_cross_entropy<T>(K, reader);
  } else if (name == "mse") {
    loss = loss_of(SquaredError<T>{K});
  } else if (name == "bce") {
    loss = loss_of(BinaryCrossEntropy<T>{K, T(reader.number_or_zero("label_smoothing", 1))});
  } else if (name == "focal") {
    loss = loss_of(Focal<T>{K, reader.number("gamma", HUGE_VAL)});
  } else if (name == "ordinal") {
    loss = make_ordinal<T>(K, reader.numbers("thresholds"), reader.word("link"));
  } else {
    throw std::invalid_argument("loss must be 'cross_entropy', 'mse', 'bce', 'focal' or 'ordinal', not '" + name + "'");
  }
  reader.finish();
  return loss;
}

}  // namespace ufm_fast

#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ufm_fast/losses/cross_entropy.hpp"
#include "ufm_fast/losses/ordinal.hpp"
#include "ufm_fast/losses/squared_error.hpp"

namespace ufm_fast {

using LossParameter = std::variant<double, std::vector<double>, std::string>;
using LossParameters = std::map<std::string, LossParameter>;

namespace detail {

/// Hands out the parameters of a loss by name; one that is missing, or left over at the end, is an exception.
class ParameterReader {
 public:
  ParameterReader(const std::string& loss, const LossParameters& parameters) : loss_(loss), left_(parameters) {}

  template <class Value>
  Value take(const std::string& name) {
    const auto found = left_.find(name);
    if (found == left_.end()) throw std::invalid_argument("parameters of " + loss_ + " must hold " + name);
    if (!std::holds_alternative<Value>(found->second)) {
      throw std::invalid_argument("parameters of " + loss_ + " must hold another kind of " + name);
    }
    Value value = std::get<Value>(std::move(found->second));
    left_.erase(found);
    return value;
  }

  bool has(const std::string& name) const { return left_.count(name) > 0; }

  void finish() const {
    if (!left_.empty())
      throw std::invalid_argument("parameters of " + loss_ + " must not hold " + left_.begin()->first);
  }

 private:
  std::string loss_;
  LossParameters left_;
};

}  // namespace detail

/// The loss of this name. An std::invalid_argument refuses an unknown name and unknown, missing or impossible
/// parameters.
///
///     "cross_entropy"   label_smoothing in [0, 1]
///     "mse"             no parameters
///     "ordinal"         link, "logit" or "probit"; thresholds, unless they are learned: see make_ordinal
template <class T>
LossPointer<T> make_loss(const std::string& name, Index K, const LossParameters& parameters) {
  detail::ParameterReader reader(name, parameters);
  LossPointer<T> loss;
  if (name == "cross_entropy") {
    const double smoothing = reader.take<double>("label_smoothing");
    if (!(smoothing >= 0 && smoothing <= 1)) throw std::invalid_argument("label_smoothing must lie in [0, 1]");
    loss = loss_of(CrossEntropy<T>{K, T(smoothing)});
  } else if (name == "mse") {
    loss = loss_of(SquaredError<T>{K});
  } else if (name == "ordinal") {
    std::vector<double> thresholds;
    if (reader.has("thresholds")) thresholds = reader.take<std::vector<double>>("thresholds");
    loss = make_ordinal<T>(K, std::move(thresholds), reader.take<std::string>("link"));
  } else {
    throw std::invalid_argument("loss must be 'cross_entropy', 'mse' or 'ordinal', not '" + name + "'");
  }
  reader.finish();
  return loss;
}

}  // namespace ufm_fast

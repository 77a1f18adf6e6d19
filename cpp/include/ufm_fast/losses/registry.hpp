#pragma once

#include <map>
#include <stdexcept>
#include <string>

#include "ufm_fast/losses/cross_entropy.hpp"
#include "ufm_fast/losses/squared_error.hpp"

namespace ufm_fast {

using LossParameters = std::map<std::string, double>;

namespace detail {

/// Hands out the parameters of a loss by name; one that is missing, or left over at the end, is an exception.
class ParameterReader {
 public:
  ParameterReader(const std::string& loss, const LossParameters& parameters) : loss_(loss), left_(parameters) {}

  double take(const std::string& name) {
    const auto found = left_.find(name);
    if (found == left_.end()) throw std::invalid_argument("parameters of " + loss_ + " must hold " + name);
    const double value = found->second;
    left_.erase(found);
    return value;
  }

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
template <class T>
LossPointer<T> make_loss(const std::string& name, Index K, const LossParameters& parameters) {
  detail::ParameterReader reader(name, parameters);
  LossPointer<T> loss;
  if (name == "cross_entropy") {
    const double smoothing = reader.take("label_smoothing");
    if (!(smoothing >= 0 && smoothing <= 1)) throw std::invalid_argument("label_smoothing must lie in [0, 1]");
    loss = loss_of(CrossEntropy<T>{K, T(smoothing)});
  } else if (name == "mse") {
    loss = loss_of(SquaredError<T>{K});
  } else {
    throw std::invalid_argument("loss must be 'cross_entropy' or 'mse', not '" + name + "'");
  }
  reader.finish();
  return loss;
}

}  // namespace ufm_fast

#pragma once

// What libufm_fast and its parts, one for each instruction-set level, know of each other. Errors are codes and
// messages: no exception leaves a shared object.

#include <memory>
#include <new>
#include <string>
#include <ufm_fast/base/parallel.hpp>
#include <ufm_fast/losses/registry.hpp>
#include <ufm_fast/model/make_problem.hpp>

#include "ufm_fast.h"

namespace ufm_fast::c {

/// Runs work() and returns UFM_FAST_OK, or the code of its exception, with the message.
template <class Work>
int guarded(std::string& message, Work&& work) noexcept {
  const auto failed = [&message](int code, const char* what) {
    try {
      message = what;
    } catch (const std::bad_alloc&) {
      message.clear();
    }
    return code;
  };
  try {
    work();
    return UFM_FAST_OK;
  } catch (const std::invalid_argument& error) {
    return failed(UFM_FAST_INVALID, error.what());
  } catch (const std::bad_alloc&) {
    return failed(UFM_FAST_MEMORY, "memory for these dimensions and threads cannot be allocated");
  } catch (const std::length_error&) {
    return failed(UFM_FAST_MEMORY, "memory for these dimensions and threads cannot be allocated");
  } catch (const std::overflow_error& error) {
    return failed(UFM_FAST_OVERFLOW, error.what());
  } catch (const Interrupted& error) {
    return failed(UFM_FAST_INTERRUPTED, error.what());
  } catch (const std::exception& error) {
    return failed(UFM_FAST_FAILED, error.what());
  } catch (...) {
    return failed(UFM_FAST_FAILED, "unknown error");
  }
}

/// The rows of data as the C functions take them.
struct Rows {
  Index M;
  const std::int64_t* labels;
  const std::int64_t *starts, *columns;
  const double* entries;
  const double *samples, *weights, *ridges;
};

/// What a problem is, but for its rows.
struct Description {
  std::string loss;
  Index K, d;
  bool single_precision;
  LossParameters parameters = {};
  Decays decays = {};
  Execution execution = {};
};

/// The parts of a point whose numbers are double or float, as the description says.
template <class Void>
struct Parts {
  Void *W, *H, *b;
};

/// A problem in the code of one level. What is given has been compared with null.
class Model {
 public:
  virtual ~Model() = default;
  virtual Index size() const noexcept = 0;
  virtual int loss(const void* x, double* value, const Execution& execution, std::string& message) const noexcept = 0;
  virtual int loss_and_gradient(const void* x, double* value, void* gradient, const Execution& execution,
                                std::string& message) const noexcept = 0;
  virtual int loss_and_gradient(Parts<const void> p, double* value, Parts<void> gradient, const Execution& execution,
                                std::string& message) const noexcept = 0;
  virtual int hessian_products(const void* x, Index count, const void* v, void* out, const Execution& execution,
                               std::string& message) const noexcept = 0;
};

/// What the shared object of a level exports, by a function of the name in `level_symbol`.
struct Level {
  const char* name;
  const char* version;
  int (*make)(const Description& description, const Rows& rows, std::unique_ptr<Model>& model, std::string& message);
  void (*set_gemm)(ufm_fast_function dgemm, ufm_fast_function sgemm, int integer_bytes);
};

inline constexpr char level_symbol[] = "ufm_fast_level";

}  // namespace ufm_fast::c

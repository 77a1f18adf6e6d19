// libufm_fast: the C functions. Compiled for the baseline processor; the work is done by the shared object of the best
// level, beside this one, which is loaded when it is first needed.
#include <algorithm>
#include <cstdlib>
#include <variant>

#include "levels.hpp"
#include "load_level.hpp"
#include "model.hpp"
#include "ufm_fast.h"

struct ufm_fast_problem {
  ufm_fast::c::Description description;
  std::variant<std::monostate, ufm_fast::c::Model<double>, ufm_fast::c::Model<float>> model;  // once it has targets
};

namespace ufm_fast::c {

namespace {

std::string& message() {
  static thread_local std::string text;
  return text;
}

/// No shared object of a level can be used here.
struct Unavailable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Runs work() for a C function: UFM_FAST_OK, or the code of its exception, whose message is kept.
template <class Work>
int answer(Work&& work) noexcept {
  const auto failed = [](int code, const char* what) {
    try {
      message() = what;
    } catch (const std::bad_alloc&) {
      message().clear();
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
  } catch (const Unavailable& error) {
    return failed(UFM_FAST_UNAVAILABLE, error.what());
  } catch (const std::exception& error) {
    return failed(UFM_FAST_FAILED, error.what());
  } catch (...) {
    return failed(UFM_FAST_FAILED, "unknown error");
  }
}

/// An argument must not be null.
void require(const void* argument, const char* name) {
  if (argument == nullptr) throw std::invalid_argument(std::string(name) + " must not be NULL");
}

const Level* loaded(const std::string& name) {
  return &load_level(folder_of(reinterpret_cast<const void*>(&ufm_fast_version)), name);
}

/// The level that UFM_FAST_ISA names, or else the best that is built and that this machine runs.
const Level* chosen_level() {
  std::vector<std::string> names = levels();
  names.push_back("native");  // a developer's build
  const char* const wanted = std::getenv("UFM_FAST_ISA");
  if (wanted != nullptr && *wanted != '\0') {
    if (std::find(names.begin(), names.end(), wanted) == names.end()) {
      throw std::runtime_error("this machine does not run the level that the environment variable UFM_FAST_ISA names");
    }
    return loaded(wanted);
  }
  std::string reason;
  for (auto name = names.rbegin(); name != names.rend(); ++name) {
    try {
      return loaded(*name);
    } catch (const std::runtime_error& error) {
      reason = error.what();  // of the baseline at last, which is always built
    }
  }
  throw std::runtime_error(reason);
}

const Level& level() {
  try {
    static const Level* const best = chosen_level();
    return *best;
  } catch (const std::runtime_error& error) {
    throw Unavailable(error.what());
  }
}

void describe(ufm_fast_problem* problem) {
  require(problem, "problem");
  if (problem->model.index() != 0) throw std::invalid_argument("problem must not have its targets yet");
}

int set_parameter(ufm_fast_problem* problem, const char* name, LossParameters::mapped_type value) {
  return answer([&] {
    describe(problem);
    require(name, "name");
    problem->description.parameters[name] = std::move(value);
  });
}

int set_rows(ufm_fast_problem* problem, const Rows& rows) {
  return answer([&] {
    require(problem, "problem");
    if (problem->description.single_precision) {
      problem->model = Model<float>(level(), problem->description, rows);
    } else {
      problem->model = Model<double>(level(), problem->description, rows);
    }
  });
}

/// Refuses a problem that has no targets.
void require_targets(const ufm_fast_problem* problem) {
  require(problem, "problem");
  if (problem->model.index() == 0) throw std::invalid_argument("problem must be given its targets first");
}

/// The model of a problem that has its targets, of numbers of type T.
template <class T>
const Model<T>& model_of(const ufm_fast_problem* problem) {
  require_targets(problem);
  const auto* const model = std::get_if<Model<T>>(&problem->model);
  if (model == nullptr) {
    throw std::invalid_argument(std::is_same_v<T, float> ? "problem must be of single precision for functions in _f"
                                                         : "problem is of single precision: use the function in _f");
  }
  return *model;
}

template <class T>
int loss(const ufm_fast_problem* problem, const T* x, double* value) {
  return answer([&] {
    const Model<T>& model = model_of<T>(problem);
    require(x, "x");
    require(value, "value");
    model.loss(model.problem().point(x), *value, problem->description.execution);
  });
}

template <class T>
int loss_and_gradient(const ufm_fast_problem* problem, const T* x, double* value, T* gradient) {
  return answer([&] {
    const Model<T>& model = model_of<T>(problem);
    require(x, "x");
    require(value, "value");
    require(gradient, "gradient");
    const Problem<T>& shape = model.problem();
    model.loss_and_gradient(shape.point(x), *value, shape.point(gradient), problem->description.execution);
  });
}

/// W, H and b of a point or of a gradient.
template <class T>
struct Parts {
  T *W, *H, *b;
};

template <class T>
int loss_and_gradient(const ufm_fast_problem* problem, Parts<const T> p, double* value, Parts<T> gradient) {
  return answer([&] {
    const Model<T>& model = model_of<T>(problem);
    require(p.W, "W");
    require(p.H, "H");
    require(value, "value");
    require(gradient.W, "gradient_W");
    require(gradient.H, "gradient_H");
    if (problem->description.decays.bias) {
      require(p.b, "b");
      require(gradient.b, "gradient_b");
    }
    const Index K = model.problem().K, d = model.problem().d, M = model.problem().M;
    model.loss_and_gradient({{p.W, K, d}, {p.H, M, d}, p.b}, *value,
                            {{gradient.W, K, d}, {gradient.H, M, d}, gradient.b}, problem->description.execution);
  });
}

template <class T>
int hessian_products(const ufm_fast_problem* problem, const T* x, std::int64_t count, const T* v, T* out) {
  return answer([&] {
    const Model<T>& model = model_of<T>(problem);
    require(x, "x");
    require(v, "v");
    require(out, "out");
    if (count < 1) throw std::invalid_argument("count must be positive, not " + std::to_string(count));
    model.hessian_products(x, count, v, out, problem->description.execution);
  });
}

}  // namespace

}  // namespace ufm_fast::c

using namespace ufm_fast::c;

const char* ufm_fast_version(void) { return UFM_FAST_VERSION; }

const char* ufm_fast_message(void) { return message().c_str(); }

const char* ufm_fast_instruction_set(void) {
  const char* name = nullptr;
  answer([&] { name = level().name; });
  return name;
}

int ufm_fast_set_gemm(ufm_fast_function dgemm, ufm_fast_function sgemm, int integer_bytes) {
  return answer([&] {
    if (integer_bytes != 4 && integer_bytes != 8) {
      throw std::invalid_argument("integer_bytes must be 4 or 8, not " + std::to_string(integer_bytes));
    }
    level().in_double.gemm_function().set(reinterpret_cast<void*>(dgemm), integer_bytes);
    level().in_float.gemm_function().set(reinterpret_cast<void*>(sgemm), integer_bytes);
  });
}

int ufm_fast_new(const char* loss, int64_t K, int64_t d, int single_precision, ufm_fast_problem** out) {
  return answer([&] {
    require(loss, "loss");
    require(out, "out");
    *out = nullptr;
    if (K < 1 || d < 1) {
      throw std::invalid_argument("K and d must be positive, not " + std::to_string(K) + " and " + std::to_string(d));
    }
    level();
    *out = new ufm_fast_problem{{loss, K, d, single_precision != 0}, {}};
  });
}

void ufm_fast_free(ufm_fast_problem* problem) { delete problem; }

int ufm_fast_set_number(ufm_fast_problem* problem, const char* name, double value) {
  return set_parameter(problem, name, value);
}

int ufm_fast_set_vector(ufm_fast_problem* problem, const char* name, int64_t count, const double* values) {
  std::vector<double> numbers;
  const int code = answer([&] {
    require(values, "values");
    if (count < 1) throw std::invalid_argument("count must be positive, not " + std::to_string(count));
    numbers.assign(values, values + count);
  });
  return code == UFM_FAST_OK ? set_parameter(problem, name, std::move(numbers)) : code;
}

int ufm_fast_set_word(ufm_fast_problem* problem, const char* name, const char* word) {
  std::string text;
  const int code = answer([&] {
    require(word, "word");
    text = word;
  });
  return code == UFM_FAST_OK ? set_parameter(problem, name, std::move(text)) : code;
}

int ufm_fast_set_decays(ufm_fast_problem* problem, double lambda_W, double lambda_H, double lambda_b, int bias) {
  return answer([&] {
    describe(problem);
    ufm_fast::detail::require_decay(lambda_W, "lambda_W");
    ufm_fast::detail::require_decay(lambda_H, "lambda_H");
    ufm_fast::detail::require_decay(lambda_b, "lambda_b");
    problem->description.decays = {lambda_W, lambda_H, lambda_b, bias != 0};
  });
}

int ufm_fast_set_labels(ufm_fast_problem* problem, int64_t M, const int64_t* labels, const double* samples,
                        const double* weights, const double* ridges) {
  return set_rows(problem, {M, labels, nullptr, nullptr, nullptr, samples, weights, ridges});
}

int ufm_fast_set_targets(ufm_fast_problem* problem, int64_t M, const double* entries, const double* samples,
                         const double* weights, const double* ridges) {
  const int code = answer([&] { require(entries, "entries"); });
  if (code != UFM_FAST_OK) return code;
  return set_rows(problem, {M, nullptr, nullptr, nullptr, entries, samples, weights, ridges});
}

int ufm_fast_set_sparse_targets(ufm_fast_problem* problem, int64_t M, const int64_t* starts, const int64_t* columns,
                                const double* entries, const double* samples, const double* weights,
                                const double* ridges) {
  const int code = answer([&] {
    require(starts, "starts");
    require(columns, "columns");
    require(entries, "entries");
  });
  if (code != UFM_FAST_OK) return code;
  return set_rows(problem, {M, nullptr, starts, columns, entries, samples, weights, ridges});
}

int ufm_fast_set_threads(ufm_fast_problem* problem, int threads) {
  return answer([&] {
    require(problem, "problem");
    if (threads < 1 || threads > ufm_fast::most_threads) {
      throw std::invalid_argument("threads must be between 1 and " + std::to_string(ufm_fast::most_threads) + ", not " +
                                  std::to_string(threads));
    }
    problem->description.execution.threads = threads;
  });
}

int ufm_fast_set_interruption(ufm_fast_problem* problem, int (*stop)(void* context), void* context) {
  return answer([&] {
    require(problem, "problem");
    problem->description.execution.poll = nullptr;
    if (stop != nullptr) problem->description.execution.poll = [stop, context] { return stop(context) != 0; };
  });
}

int ufm_fast_size(const ufm_fast_problem* problem, int64_t* size) {
  return answer([&] {
    require(size, "size");
    require_targets(problem);
    *size = problem->description.single_precision ? model_of<float>(problem).problem().size()
                                                  : model_of<double>(problem).problem().size();
  });
}

int ufm_fast_loss(const ufm_fast_problem* problem, const double* x, double* value) { return loss(problem, x, value); }

int ufm_fast_loss_f(const ufm_fast_problem* problem, const float* x, double* value) { return loss(problem, x, value); }

int ufm_fast_loss_and_gradient(const ufm_fast_problem* problem, const double* x, double* value, double* gradient) {
  return loss_and_gradient(problem, x, value, gradient);
}

int ufm_fast_loss_and_gradient_f(const ufm_fast_problem* problem, const float* x, double* value, float* gradient) {
  return loss_and_gradient(problem, x, value, gradient);
}

int ufm_fast_loss_and_gradient_of_parts(const ufm_fast_problem* problem, const double* W, const double* H,
                                        const double* b, double* value, double* gradient_W, double* gradient_H,
                                        double* gradient_b) {
  return loss_and_gradient<double>(problem, {W, H, b}, value, {gradient_W, gradient_H, gradient_b});
}

int ufm_fast_loss_and_gradient_of_parts_f(const ufm_fast_problem* problem, const float* W, const float* H,
                                          const float* b, double* value, float* gradient_W, float* gradient_H,
                                          float* gradient_b) {
  return loss_and_gradient<float>(problem, {W, H, b}, value, {gradient_W, gradient_H, gradient_b});
}

int ufm_fast_hessian_products(const ufm_fast_problem* problem, const double* x, int64_t count, const double* v,
                              double* out) {
  return hessian_products(problem, x, count, v, out);
}

int ufm_fast_hessian_products_f(const ufm_fast_problem* problem, const float* x, int64_t count, const float* v,
                                float* out) {
  return hessian_products(problem, x, count, v, out);
}

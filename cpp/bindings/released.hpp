#pragma once

#include <pybind11/pybind11.h>

#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <ufm_fast/base/parallel.hpp>

namespace ufm_fast::bindings {

namespace detail {

/// What run_released does, for any work: the same code for all.
inline void run_released(int threads, const std::function<void(const Execution&)>& work) {
  namespace py = pybind11;
  if (threads < 1 || threads > most_threads) {
    throw py::value_error("threads must be between 1 and " + std::to_string(most_threads) + ", not " +
                          std::to_string(threads));
  }
  const Execution execution{threads, [] {
                              const py::gil_scoped_acquire gil;
                              return PyErr_CheckSignals() != 0;
                            }};
  try {
    const py::gil_scoped_release release;
    work(execution);
  } catch (const Interrupted&) {
    throw py::error_already_set();
  }
}

}  // namespace detail

/// Runs work(Execution) without the GIL, asking for pending signals now and then, and returns what it returns.
template <class Work>
auto run_released(int threads, Work&& work) {
  using Result = decltype(work(Execution{}));
  if constexpr (std::is_void_v<Result>) {
    detail::run_released(threads, std::ref(work));
  } else {
    std::optional<Result> result;
    const auto keep = [&](const Execution& execution) { result.emplace(work(execution)); };
    detail::run_released(threads, std::ref(keep));
    return std::move(*result);
  }
}

}  // namespace ufm_fast::bindings

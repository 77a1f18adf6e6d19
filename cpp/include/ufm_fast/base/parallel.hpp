#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "ufm_fast/base/matrix_view.hpp"
#include "ufm_fast/base/visible.hpp"

namespace ufm_fast {

/// Thrown out of a driver when the caller's poll asked to stop.
struct UFM_FAST_VISIBLE Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

/// How a driver runs: on how many threads, and what to ask now and then (on the calling thread, about twenty times a
/// second) whether to stop. An empty poll is never asked.
struct Execution {
  int threads = 1;
  std::function<bool()> poll = {};
};

/// Lets workers stop early: call check() between pieces of work of at most a fraction of a second.
class Interruption {
 public:
  explicit Interruption(const std::function<bool()>& poll) : poll_(poll), next_(Clock::now() + interval) {}

  void check(int worker) {
    if (worker == 0 && poll_ && Clock::now() >= next_) {
      if (poll_()) stop();
      next_ = Clock::now() + interval;
    }
    if (stopped_.load(std::memory_order_relaxed)) throw Interrupted();
  }
  void stop() { stopped_.store(true, std::memory_order_relaxed); }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::milliseconds interval{50};
  const std::function<bool()>& poll_;
  Clock::time_point next_;
  std::atomic<bool> stopped_{false};
};

/// The most threads that the bindings take: more than the processors of any machine, fewer than a process may start.
inline constexpr int most_threads = 4096;

/// How many workers parallel_ranges starts for so many pieces of work.
inline int worker_count(Index pieces, int threads) {
  return static_cast<int>(std::max<Index>(1, std::min<Index>(pieces, threads)));
}

namespace detail {

/// What parallel_ranges does, for any work: the same code for all.
inline void run_ranges(Index size, int workers, const std::function<bool()>& poll,
                       const std::function<void(int, Index, Index, Interruption&)>& work) {
  Interruption interruption(poll);
  std::vector<std::exception_ptr> errors(workers);
  std::vector<char> interrupted(workers, 0);
  auto run = [&](int worker) {
    try {
      work(worker, size * worker / workers, size * (worker + 1) / workers, interruption);
    } catch (const Interrupted&) {
      interrupted[worker] = 1;
    } catch (...) {
      errors[worker] = std::current_exception();
      interruption.stop();
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(workers - 1);
  int next = 1;
  try {
    for (; next < workers; ++next) threads.emplace_back(run, next);
  } catch (const std::system_error&) {
  } catch (const std::bad_alloc&) {
  }
  run(0);
  for (; next < workers; ++next) run(next);
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  if (std::find(interrupted.begin(), interrupted.end(), 1) != interrupted.end()) throw Interrupted();
}

}  // namespace detail

/// Splits [0, size) into `workers` contiguous near-equal ranges and calls work(worker, first, last, interruption) on a
/// thread each; worker 0 is the calling thread, which also takes over ranges whose thread cannot be started. The split
/// depends on nothing but its arguments. Threads live for the call only. An exception in one worker stops the others
/// and is rethrown after all have ended.
template <class Work>
void parallel_ranges(Index size, int workers, const std::function<bool()>& poll, Work&& work) {
  detail::run_ranges(size, workers, poll, std::ref(work));
}

}  // namespace ufm_fast

// The most fused multiply-adds that a core can do: independent chains of full-width vectors, held in registers.
// Compiled by machine.py for the machine it runs on.
#include <chrono>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int width = 64, chains = 24;
#elif defined(__AVX__)
constexpr int width = 32, chains = 12;
#elif defined(__aarch64__)
constexpr int width = 16, chains = 24;
#else
constexpr int width = 16, chains = 12;
#endif

template <typename T>
void run_chains(long steps, volatile T* sink) {
  typedef T Vector __attribute__((vector_size(width)));
  Vector sums[chains];
  const Vector factor = Vector{} + T(0.9), addend = Vector{} + T(0.1) * (sink[0] + T(1));
#pragma GCC unroll 24
  for (int i = 0; i < chains; ++i) sums[i] = addend * T(i);
  for (long step = 0; step < steps; ++step) {
#pragma GCC unroll 24
    for (int i = 0; i < chains; ++i) sums[i] = sums[i] * factor + addend;
  }
  Vector total{};
  for (const Vector& sum : sums) total += sum;
  sink[0] = total[0];
}

template <typename T>
double flops_per_second(int threads, long steps) {
  std::vector<T> sinks(threads * width);
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> others;
  for (int i = 1; i < threads; ++i) others.emplace_back(run_chains<T>, steps, &sinks[i * width]);
  run_chains<T>(steps, &sinks[0]);
  for (std::thread& other : others) other.join();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  return 2.0 * (width / sizeof(T)) * chains * steps * threads / seconds.count();
}

}  // namespace

extern "C" double fma_peak_double(int threads, long steps) { return flops_per_second<double>(threads, steps); }
extern "C" double fma_peak_single(int threads, long steps) { return flops_per_second<float>(threads, steps); }

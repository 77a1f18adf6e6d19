#pragma once

#include <Eigen/Core>
#include <cstdint>
#include <cstring>

#include "ufm_fast/base/matrix_view.hpp"

namespace ufm_fast::simd {

// Eigen's packets: the vector registers of the instruction set that this is compiled for (SSE, AVX, AVX-512, NEON,
// ...).

using namespace Eigen::internal;

template <class T>
using Packet = typename packet_traits<T>::type;

/// Numbers in a packet.
template <class T>
inline constexpr Index lanes = unpacket_traits<Packet<T>>::size;

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wignored-attributes"  // alignment, of a register type as template argument
#endif

/// A packet of as many integers of the same size.
template <class T>
using Integers = typename unpacket_traits<Packet<T>>::integer_packet;

/// to(j, i) = from(i, j) for a square of `lanes` rows.
template <class T>
EIGEN_ALWAYS_INLINE void transpose_square(const T* from, Index from_stride, T* to, Index to_stride) {
  PacketBlock<Packet<T>, static_cast<int>(lanes<T>)> square;
  for (Index i = 0; i < lanes<T>; ++i) square.packet[i] = ploadu<Packet<T>>(from + i * from_stride);
  ptranspose(square);
  for (Index i = 0; i < lanes<T>; ++i) pstoreu(to + i * to_stride, square.packet[i]);
}

/// power 2^n, for a normal result, where n is the integer in the lowest bits of `bits`.
inline Packet<float> times_power_of_two(Packet<float> power, Packet<float> bits) {
  const auto exponent = plogical_shift_left<23>(preinterpret<Integers<float>>(bits));
  return preinterpret<Packet<float>>(padd(preinterpret<Integers<float>>(power), exponent));
}

// Eigen has no packets of integers as long as a double on some instruction sets.
#if defined(EIGEN_VECTORIZE_AVX512)
inline Packet<double> times_power_of_two(Packet<double> power, Packet<double> bits) {
  const __m512i exponent = _mm512_slli_epi64(_mm512_castpd_si512(bits), 52);
  return _mm512_castsi512_pd(_mm512_add_epi64(_mm512_castpd_si512(power), exponent));
}
#elif defined(EIGEN_VECTORIZE_AVX2)
inline Packet<double> times_power_of_two(Packet<double> power, Packet<double> bits) {
  const __m256i exponent = _mm256_slli_epi64(_mm256_castpd_si256(bits), 52);
  return _mm256_castsi256_pd(_mm256_add_epi64(_mm256_castpd_si256(power), exponent));
}
#else
inline Packet<double> times_power_of_two(Packet<double> power, Packet<double> bits) {
  EIGEN_ALIGN_MAX double numbers[2][lanes<double>];
  pstore(numbers[0], power);
  pstore(numbers[1], bits);
  std::uint64_t integers[2][lanes<double>];
  std::memcpy(integers, numbers, sizeof numbers);
  for (Index i = 0; i < lanes<double>; ++i) integers[0][i] += integers[1][i] << 52;
  std::memcpy(numbers, integers, sizeof numbers);
  return pload<Packet<double>>(numbers[0]);
}
#endif

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

}  // namespace ufm_fast::simd

#pragma once

#include <Eigen/Core>

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

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

}  // namespace ufm_fast::simd

// Loss, gradient and Hessian product at shapes that cut blocks, panels and tiles in every way, against dense algebra.
#include "compare.hpp"

namespace {

using namespace ufm_fast;
using namespace ufm_fast::tests;

template <class T>
void compare(const Shape& shape, PlainLoss plain_loss, bool bias, int threads, double tolerance) {
  const Model<T> model(shape, core_loss<T>(plain_loss, shape.K), bias);
  compare_with_plain(model, plain_loss, threads, tolerance);
}

template <class T>
void compare_all(double tolerance) {
  const Shape shapes[] = {{33, 33, 1},  {50, 50, 50}, {65, 17, 7},  {47, 97, 12},   {130, 9, 25}, {25, 129, 31},
                          {64, 64, 64}, {270, 5, 13}, {5, 270, 13}, {515, 3, 9},    {3, 515, 9},  {1040, 2, 5},
                          {2, 1040, 5}, {37, 401, 6}, {401, 37, 6}, {33, 32, 1601}, {32, 33, 790}};
  for (const Shape& shape : shapes) {
    compare<T>(shape, {false, 0}, true, 2, tolerance);
    compare<T>(shape, {false, 0.125}, false, 1, tolerance);
    compare<T>(shape, {true, 0}, true, 1, tolerance);
  }
}

/// So many classes that workers share tiles, of which some may have no rows.
template <class T>
void compare_many_classes(double tolerance) {
  const Index K = 48000 / static_cast<Index>(sizeof(T));
  for (const Shape& shape : {Shape{K, 3, 2}, Shape{K + 7, 70, 37}}) {
    for (const int threads : {1, 3}) compare<T>(shape, {false, 0}, true, threads, tolerance);
  }
  compare<T>({K, 5, 9}, {true, 0}, false, 2, tolerance);
}

}  // namespace

int main() {
  compare_all<double>(1e-12);
  compare_all<float>(2e-4);
  compare_many_classes<double>(1e-12);
  compare_many_classes<float>(2e-4);
  return ufm_fast::tests::failures();
}

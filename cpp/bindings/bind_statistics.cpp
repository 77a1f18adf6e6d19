#include "bind_statistics.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "arrays.hpp"
#include "bind_problem.hpp"

namespace ufm_fast::bindings {

namespace {

/// ClassStatistics behind the checks of its arguments. After features that are not finite, or an update or a merge cut
/// short, it is of no use any more and says so. The accumulator that owns it lets one thread at a time use it.
class StatisticsBinding {
 public:
  StatisticsBinding(Index K, Index d, bool scatter)
      : statistics_(double_core().make_statistics(classes(K, d, scatter), d, scatter)) {}

  void update(const py::array& H, py::handle labels, int threads) {
    check();
    if (H.ndim() != 2) throw py::value_error("H must have two dimensions, not " + std::to_string(H.ndim()));
    if (py::isinstance<py::array_t<float>>(H)) {
      add<float>(H, labels, threads);
    } else {
      add<double>(H, labels, threads);
    }
  }

  void merge(StatisticsBinding& other, int threads) {
    check();
    other.check();
    if (&other == this) throw py::value_error("other must be another object");
    if (other.statistics_->K() != statistics_->K() || other.statistics_->d() != statistics_->d()) {
      throw py::value_error("other must have the same K and d");
    }
    if (other.statistics_->has_scatter() != statistics_->has_scatter()) {
      throw py::value_error("other must have a scatter matrix where this has one");
    }
    usable_ = other.usable_ = false;
    run_released(threads,
                 [&](const Execution& execution) { double_core().merge(*statistics_, *other.statistics_, execution); });
    usable_ = other.usable_ = true;
  }

  py::array_t<Index> counts() const { return py::array_t<Index>(statistics_->K(), statistics_->counts().data()); }

  py::tuple read(int threads) {
    check();
    const Index K = statistics_->K(), d = statistics_->d();
    const Index size = statistics_->has_scatter() ? d : 0;
    auto means = new_array<double>({K, d});
    py::array_t<double> scatter({size, size});  // not of the memory kept for the next call: there seldom is one
    auto roundings = new_array<double>({K}), squares = new_array<double>({K});
    const MatrixView<double> means_out(means.mutable_data(), K, d), scatter_out(scatter.mutable_data(), size, size);
    double *roundings_out = roundings.mutable_data(), *squares_out = squares.mutable_data();
    usable_ = false;
    run_released(threads, [&](const Execution& execution) {
      double_core().read(*statistics_, means_out, roundings_out, squares_out, scatter_out, execution);
    });
    usable_ = true;
    const py::object both_halves = statistics_->has_scatter() ? py::object(std::move(scatter)) : py::none();
    return py::make_tuple(std::move(means), std::move(roundings), std::move(squares), both_halves);
  }

  py::dict state() {
    check();
    py::dict parts;
    statistics_->for_each_part([&](const char* name, auto& numbers, std::initializer_list<Index> shape) {
      using Number = typename std::decay_t<decltype(numbers)>::value_type;
      parts[name] = py::array_t<Number>(std::vector<py::ssize_t>(shape.begin(), shape.end()), numbers.data());
    });
    return parts;
  }

  /// The arrays of another's state() become those of this one; the caller has looked at their values.
  void set_state(const py::dict& parts) {
    statistics_->for_each_part([&](const char* name, auto& numbers, std::initializer_list<Index> shape) {
      using Number = typename std::decay_t<decltype(numbers)>::value_type;
      std::copy_n(array_argument<Number>(parts[name], name, shape), numbers.size(), numbers.data());
    });
  }

 private:
  std::shared_ptr<ClassStatistics> statistics_;
  bool usable_ = true;

  void check() const {
    if (!usable_) {
      throw py::value_error("these statistics have refused a batch of features or were interrupted: start new ones");
    }
  }

  static Index classes(Index K, Index d, bool scatter) {
    array_size<double>({positive(K, "K"), positive(d, "d")});
    if (scatter) array_size<double>({d, d});
    return K;
  }

  template <class T>
  void add(const py::array& H, py::handle labels, int threads) {
    const Index rows = H.shape(0);
    const MatrixView<const T> features = matrix_argument<T>(H, "H", rows, statistics_->d());
    const Index* label = array_argument<Index>(labels, "labels", {rows});
    for (Index i = 0; i < rows; ++i) {
      if (label[i] < 0 || label[i] >= statistics_->K()) {
        throw py::value_error("labels must lie in [0, " + std::to_string(statistics_->K()) + "), not " +
                              std::to_string(label[i]));
      }
    }
    usable_ = false;
    usable_ = run_released(threads, [&](const Execution& execution) {
      return core<T>().update(*statistics_, features, label, execution);
    });
    if (!usable_) refuse(features);
  }

  template <class T>
  [[noreturn]] static void refuse(MatrixView<const T> H) {
    Index i = 0;
    while (i < H.rows * H.cols && std::isfinite(H.data[i])) ++i;
    if (i == H.rows * H.cols) throw py::value_error("H must be smaller: the squares of its entries overflow");
    throw py::value_error("H must be finite, but row " + std::to_string(i / H.cols) + " of the batch holds " +
                          std::string(py::str(py::float_(H.data[i]))));
  }
};

}  // namespace

void bind_statistics(py::module_& module) {
  using py::arg;
  py::class_<StatisticsBinding>(module, "ClassStatistics", py::module_local())
      .def(py::init<Index, Index, bool>(), arg("K"), arg("d"), arg("scatter") = true)
      .def("update", &StatisticsBinding::update, arg("H"), arg("labels"), arg("threads"))
      .def("merge", &StatisticsBinding::merge, arg("other"), arg("threads"))
      .def("counts", &StatisticsBinding::counts)
      .def("read", &StatisticsBinding::read, arg("threads"))
      .def("state", &StatisticsBinding::state)
      .def("set_state", &StatisticsBinding::set_state, arg("parts"));
}

}  // namespace ufm_fast::bindings

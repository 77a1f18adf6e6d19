#include "bind_ordinal.hpp"

#include <ufm_fast/losses/ordinal_link.hpp>

#include "arrays.hpp"
#include "targets.hpp"

namespace ufm_fast::bindings {

namespace {

/// (7, M): a row for each of the numbers of IntervalTerms, at logits z between lo and hi.
Array ordinal_terms(const std::string& link, py::handle z, py::handle lo, py::handle hi) {
  if (link != "logit" && link != "probit") throw py::value_error("link must be 'logit' or 'probit', not " + link);
  const Index M = row_count<double>(z, "z");
  const double* at = array_argument<double>(z, "z", {M});
  const double* least = array_argument<double>(lo, "lo", {M});
  const double* most = array_argument<double>(hi, "hi", {M});
  Array out = new_array<double>({7, M});
  double* data = out.mutable_data();
  for (Index m = 0; m < M; ++m) {
    const IntervalTerms terms =
        link == "logit" ? LogitLink::terms(at[m], least[m], most[m]) : ProbitLink::terms(at[m], least[m], most[m]);
    const double numbers[] = {terms.loss,  terms.slope, terms.of_hi,  terms.of_lo,
                              terms.at_hi, terms.at_lo, terms.between};
    for (Index i = 0; i < 7; ++i) data[i * M + m] = numbers[i];
  }
  return out;
}

}  // namespace

void bind_ordinal(py::module_& module) {
  using py::arg;
  module.def("ordinal_terms", &ordinal_terms, arg("link"), arg("z"), arg("lo"), arg("hi"));
}

}  // namespace ufm_fast::bindings

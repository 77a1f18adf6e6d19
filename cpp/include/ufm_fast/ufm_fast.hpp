#pragma once

#include "ufm_fast/model/at_scores.hpp"
#include "ufm_fast/model/evaluate.hpp"
#include "ufm_fast/model/gradient_matrix.hpp"
#include "ufm_fast/model/hessian.hpp"
#include "ufm_fast/statistics/class_statistics.hpp"

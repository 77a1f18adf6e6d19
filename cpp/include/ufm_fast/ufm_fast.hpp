#pragma once

#include "at_scores.hpp"
#include "class_statistics.hpp"
#include "evaluate.hpp"
#include "gradient_matrix.hpp"
#include "hessian.hpp"

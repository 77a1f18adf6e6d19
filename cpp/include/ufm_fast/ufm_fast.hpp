#pragma once

#include "class_statistics.hpp"
#include "evaluate.hpp"
#include "gradient_matrix.hpp"
#include "hessian.hpp"

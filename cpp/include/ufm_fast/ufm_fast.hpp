#pragma once

#include "evaluate.hpp"
#include "gradient_matrix.hpp"
#include "hessian.hpp"

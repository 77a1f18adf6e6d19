// Prints the best instruction-set level of the machine that builds.
#include <cstdio>

#include "levels.hpp"

int main() { std::fputs(ufm_fast::levels().back().c_str(), stdout); }

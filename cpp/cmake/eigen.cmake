# Finds Eigen3. The PyPI package cmeel-eigen keeps it in a directory of its own below site-packages, so that directory is
# searched under every entry of CMAKE_PREFIX_PATH.
set(eigen_prefixes ${CMAKE_PREFIX_PATH})
list(TRANSFORM eigen_prefixes APPEND "/cmeel.prefix")
list(PREPEND CMAKE_PREFIX_PATH ${eigen_prefixes})
find_package(Eigen3 3.4 CONFIG REQUIRED)

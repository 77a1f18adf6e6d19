#pragma once

// Marks what is one and the same in all shared objects of a program, also in those that hide everything by default.
#if defined(__GNUC__) && !defined(_WIN32)
#define UFM_FAST_VISIBLE __attribute__((visibility("default")))
#else
#define UFM_FAST_VISIBLE
#endif

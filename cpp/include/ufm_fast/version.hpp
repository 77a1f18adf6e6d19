#pragma once

#define UFM_FAST_VERSION "0.1.0"

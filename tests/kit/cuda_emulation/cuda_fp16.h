// Half precision as far as the kernels use it: to read.
#pragma once
#include <math.h>
#include <stdint.h>

struct __half {
    uint16_t bits;
};

inline float __half2float(__half half) {
    int exponent = half.bits >> 10 & 31, fraction = half.bits & 1023;
    float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                 : exponent     ? ldexpf(float(1024 + fraction), exponent - 25)
                                : ldexpf(float(fraction), -24);
    return half.bits >> 15 ? -size : size;
}

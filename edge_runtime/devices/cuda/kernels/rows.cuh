// Four numbers at a time, from rows and columns of any length: what lies past the end is zero, and is not written.
#pragma once

#include <cuda_fp16.h>

__device__ inline float number(float value) { return value; }
__device__ inline float number(__half value) { return __half2float(value); }

// Elements at … at + 3 of a row that has some of them; of a whole row, whose length and alignment are multiples of 4, all.
// Without a branch, so that many loads can be on their way at once.
template <bool IS_WHOLE>
__device__ float4 load_row(const float *__restrict__ row, int at, int length) {
    if constexpr (IS_WHOLE) return *reinterpret_cast<const float4 *>(row + at);
    float4 four = make_float4(row[at], 0, 0, 0);
    if (at + 1 < length) four.y = row[at + 1];
    if (at + 2 < length) four.z = row[at + 2];
    if (at + 3 < length) four.w = row[at + 3];
    return four;
}

__device__ inline void store_row(float *__restrict__ row, int at, int length, float4 four) {
    if (length % 4 == 0 && at < length) {
        *reinterpret_cast<float4 *>(row + at) = four;
        return;
    }
    if (at < length) row[at] = four.x;
    if (at + 1 < length) row[at + 1] = four.y;
    if (at + 2 < length) row[at + 2] = four.z;
    if (at + 3 < length) row[at + 3] = four.w;
}

// The same along one column of a (height, width) matrix.
template <bool IS_WHOLE, typename T>
__device__ float4 load_column(const T *__restrict__ matrix, int at, int height, int column, int width) {
    const T *first = matrix + static_cast<size_t>(at) * width + column;
    float4 four = make_float4(number(first[0]), 0, 0, 0);
    if (IS_WHOLE || at + 1 < height) four.y = number(first[width]);
    if (IS_WHOLE || at + 2 < height) four.z = number(first[2 * static_cast<size_t>(width)]);
    if (IS_WHOLE || at + 3 < height) four.w = number(first[3 * static_cast<size_t>(width)]);
    return four;
}

template <bool IS_WHOLE>
__device__ void store_column(float *__restrict__ matrix, int at, int height, int column, int width, float4 four) {
    float *first = matrix + static_cast<size_t>(at) * width + column;
    first[0] = four.x;
    if (IS_WHOLE || at + 1 < height) first[width] = four.y;
    if (IS_WHOLE || at + 2 < height) first[2 * static_cast<size_t>(width)] = four.z;
    if (IS_WHOLE || at + 3 < height) first[3 * static_cast<size_t>(width)] = four.w;
}

__device__ inline void add_scaled(float4 &sum, float scale, float4 four) {
    sum.x += scale * four.x;
    sum.y += scale * four.y;
    sum.z += scale * four.z;
    sum.w += scale * four.w;
}

__device__ inline float dot(float4 a, float4 b) { return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w; }

__device__ inline float squared_difference(float4 a, float4 b) {
    float4 difference = make_float4(a.x - b.x, a.y - b.y, a.z - b.z, a.w - b.w);
    return dot(difference, difference);
}

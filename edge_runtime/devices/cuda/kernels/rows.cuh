// Four numbers at a time, from rows and columns of any length: what lies past the end is zero, and is not written.
#pragma once

#include <cuda_fp16.h>

__device__ inline float number(float value) { return value; }
__device__ inline float number(__half value) { return __half2float(value); }

// Elements at … at + 3 of a row; `at` is a multiple of 4 and `row` aligned as its length allows.
__device__ inline float4 load_row(const float *__restrict__ row, int at, int length) {
    if (length % 4 == 0) return at < length ? *reinterpret_cast<const float4 *>(row + at) : make_float4(0, 0, 0, 0);
    float4 four = make_float4(0, 0, 0, 0);
    if (at < length) four.x = row[at];
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

// Rows at … at + 3 of one column of a (height, width) matrix; `is_inside` says whether there is such a column.
template <typename T>
__device__ float4 load_column(const T *__restrict__ matrix, int at, int height, int column, int width, bool is_inside) {
    const T *first = matrix + static_cast<size_t>(at) * width + column;
    float4 four = make_float4(0, 0, 0, 0);
    if (is_inside && at < height) four.x = number(first[0]);
    if (is_inside && at + 1 < height) four.y = number(first[width]);
    if (is_inside && at + 2 < height) four.z = number(first[2 * static_cast<size_t>(width)]);
    if (is_inside && at + 3 < height) four.w = number(first[3 * static_cast<size_t>(width)]);
    return four;
}

__device__ inline void store_column(float *__restrict__ matrix, int at, int height, int column, int width, float4 four) {
    float *first = matrix + static_cast<size_t>(at) * width + column;
    if (at < height) first[0] = four.x;
    if (at + 1 < height) first[width] = four.y;
    if (at + 2 < height) first[2 * static_cast<size_t>(width)] = four.z;
    if (at + 3 < height) first[3 * static_cast<size_t>(width)] = four.w;
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

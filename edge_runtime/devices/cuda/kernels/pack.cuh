// Numbers from all over device memory, side by side: so that one copy, or none, brings them to the host.
#pragma once

extern "C" __global__ void pack(
    float *packed, int count, const float *v0, const float *v1, const float *v2, const float *v3, const float *v4, const float *v5,
    const float *v6, const float *v7, const float *v8, const float *v9, const float *v10, const float *v11, const float *v12,
    const float *v13, const float *v14, const float *v15) {
    const float *values[] = {v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, v10, v11, v12, v13, v14, v15};
#pragma unroll
    for (int i = 0; i < 16; ++i)
        if (threadIdx.x == 0 && i < count) packed[i] = *values[i];
}

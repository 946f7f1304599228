// Every kernel of the CUDA device, in one translation unit. Shapes are arguments: one cubin an architecture serves all bundles.
// Sums run in an order that depends on the shapes alone, so that two runs give the same bits.
//
// M items of D numbers, (M, D), and K queries of D numbers, (D, K); the last axis is the contiguous one.

#include "block.cuh"
#include "rows.cuh"
#include "softmax.cuh"
#include "distance.cuh"
#include "read_few.cuh"
#include "read_many.cuh"
#include "learn.cuh"
#include "frame.cuh"
#include "pack.cuh"

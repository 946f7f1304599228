// From a camera's picture to the network's input: grey where it is wanted, resized by area, x / 127.5 − 1.
//
// Whole numbers throughout, so that nothing depends on the order: in units of 1 / w of a pixel, an output covers W of them.
#pragma once

constexpr int LINEAR_ONE = 2048;  // fixed point of OpenCV's linear resize

struct Picture {
    const unsigned char *pixels;  // (height, width, 3), BGR
    int height, width;
    bool is_grey;
};

__device__ inline int pixel(const Picture &picture, int y, int x, int channel) {
    const unsigned char *bgr = picture.pixels + 3 * (static_cast<size_t>(y) * picture.width + x);
    if (!picture.is_grey) return bgr[channel];
    return (3735 * bgr[0] + 19235 * bgr[1] + 9798 * bgr[2] + (1 << 14)) >> 15;
}

// Mean over the picture's area under an output, to the nearest level; a tie goes to the even one, with halved sides upwards, as in OpenCV.
__device__ inline int mean_level(const Picture &picture, int y, int x, int channel, int height, int width) {
    long long top = static_cast<long long>(y) * picture.height, bottom = top + picture.height;
    long long left = static_cast<long long>(x) * picture.width, right = left + picture.width;
    unsigned long long sum = 0;
    for (int row = top / height; static_cast<long long>(row) * height < bottom; ++row) {
        unsigned in_row = 0;
#pragma unroll 4
        for (int column = left / width; static_cast<long long>(column) * width < right; ++column) {
            long long begin = static_cast<long long>(column) * width, end = begin + width;
            in_row += static_cast<unsigned>(min(end, right) - max(begin, left)) * pixel(picture, row, column, channel);
        }
        long long begin = static_cast<long long>(row) * height, end = begin + height;
        sum += static_cast<unsigned long long>(min(end, bottom) - max(begin, top)) * in_row;
    }
    unsigned long long area = static_cast<unsigned long long>(picture.height) * picture.width, level = sum / area, rest = sum % area;
    bool is_halved = picture.height == 2 * height && picture.width == 2 * width;
    bool is_up = 2 * rest > area || (2 * rest == area && (is_halved || level % 2 == 1));
    return static_cast<int>(level) + is_up;
}

// Between which two pixels of a line an output lies, and how near the second, in LINEAR_ONE.
struct Between {
    int first, second, share;
};

// In OpenCV's numbers: where an output begins exactly at a pixel, it is their rounding that decides between that and the one before.
__device__ inline Between between(int output, int outputs, int pixels) {
    double inverse = static_cast<double>(outputs) / pixels;
    int first = static_cast<int>(floor(output * (1 / inverse)));
    if (first >= pixels - 1) return {pixels - 1, pixels - 1, 0};
    float share = static_cast<float>(output + 1 - (first + 1) * inverse);
    share = share <= 0 ? 0 : share - floorf(share);
    return {first, first + 1, static_cast<int>(rintf(share * LINEAR_ONE))};
}

// Where a side grows OpenCV's area resize is a linear one, between pixels that the area chooses.
__device__ inline int linear_level(const Picture &picture, int y, int x, int channel, int height, int width) {
    Between rows = between(y, height, picture.height), columns = between(x, width, picture.width);
    int upper = pixel(picture, rows.first, columns.first, channel) * (LINEAR_ONE - columns.share) +
                pixel(picture, rows.first, columns.second, channel) * columns.share;
    int lower = pixel(picture, rows.second, columns.first, channel) * (LINEAR_ONE - columns.share) +
                pixel(picture, rows.second, columns.second, channel) * columns.share;
    return ((((LINEAR_ONE - rows.share) * (upper >> 4)) >> 16) + ((rows.share * (lower >> 4)) >> 16) + 2) >> 2;
}

// One picture into two slots (channels, height, width) of a ring; a thread has one output, in all its channels.
extern "C" __global__ void preprocess(
    const unsigned char *image, float *slot, float *twin, int image_height, int image_width, int channels, int height, int width) {
    int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= width || y >= height) return;
    Picture picture = {image, image_height, image_width, channels == 1};
    bool is_growing = width > image_width || height > image_height;
    for (int channel = 0; channel < channels; ++channel) {
        int level = is_growing ? linear_level(picture, y, x, channel, height, width) : mean_level(picture, y, x, channel, height, width);
        float value = __fsub_rn(__fmul_rn(static_cast<float>(level), static_cast<float>(1 / 127.5)), 1.0f);
        size_t at = (static_cast<size_t>(channel) * height + y) * width + x;
        slot[at] = value;
        twin[at] = value;
    }
}

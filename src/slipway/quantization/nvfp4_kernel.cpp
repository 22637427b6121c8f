// NVFP4 of a band of rows: block scales and packed codes in one pass. The format and its order of operations are in
// fp4.py; every operation on numbers here is the one there, in fp32, rounded as there.
//
// Plain loops over 16 blocks of 16, which compilers turn into vectors of any width. No -ffast-math.

#include <cstdint>
#include <cstring>

namespace {

constexpr int BLOCK = 16, GROUP = 16;  // weights of a block; blocks that are scaled together
constexpr float E2M1_MAX = 6.0f, E4M3_MAX = 448.0f, E4M3_MIN = 0x1p-9f;

// Bits are signed: no vector unit before AVX-512 compares unsigned numbers.
inline int32_t bits(float x) {
    int32_t u;
    std::memcpy(&u, &x, 4);
    return u;
}

inline float value(int32_t u) {
    float x;
    std::memcpy(&x, &u, 4);
    return x;
}

// E4M3 of x in [2^-9, 448]. Below 2^-6 its steps are 2^-9, which is a step of fp32 at 2^14: adding that rounds to it.
inline int32_t e4m3(float x) {
    const int32_t u = bits(x), normal = ((u + 0x7ffff + ((u >> 20) & 1)) >> 20) - (120 << 3);
    const int32_t subnormal = bits(x + 0x1p14f) - bits(0x1p14f);
    return x < 0x1p-6f ? subnormal : normal;
}

inline float from_e4m3(int32_t code) {
    return code < 8 ? static_cast<float>(code) * 0x1p-9f : value((code + (120 << 3)) << 20);
}

// E2M1 code of x: sign << 3 | index. From 1 up the index counts an exponent and one bit below it; below, steps of 0.5.
inline int32_t e2m1(float x) {
    const int32_t u = bits(x) & 0x7fffffff, large = ((u + 0x1fffff + ((u >> 22) & 1)) >> 22) - (126 << 1);
    const int32_t small = bits(value(u) + 0x1p22f) - bits(0x1p22f);
    const int32_t index = u < 0x3f800000 ? small : large;
    return (index < 7 ? index : 7) | (x < 0 ? 8 : 0);
}

// `count` blocks: weights bf16 [count, 16] -> codes [count, 8], scales [count].
inline void blocks(const uint16_t *weight, int count, float g, uint8_t *codes, uint8_t *scales) {
    float divisor[GROUP];
    for (int block = 0; block < count; ++block) {
        uint16_t most = 0;
        for (int i = 0; i < BLOCK; ++i) {
            const uint16_t magnitude = weight[block * BLOCK + i] & 0x7fff;
            most = magnitude > most ? magnitude : most;
        }
        divisor[block] = value(static_cast<int32_t>(most) << 16);
    }
    for (int block = 0; block < count; ++block) {
        const float ratio = divisor[block] / (E2M1_MAX * g), wanted = ratio > 0 ? ratio : 1.0f;
        const float above = wanted < E4M3_MIN ? E4M3_MIN : wanted;
        const int32_t code = e4m3(above > E4M3_MAX ? E4M3_MAX : above);
        scales[block] = static_cast<uint8_t>(code);
        divisor[block] = g > 0 ? from_e4m3(code) * g : 1.0f;
    }
    for (int block = 0; block < count; ++block) {
        const uint16_t *values = weight + block * BLOCK;
        int32_t nibbles[BLOCK];
        for (int i = 0; i < BLOCK; ++i)
            nibbles[i] = e2m1(value(static_cast<int32_t>(values[i]) << 16) / divisor[block]);
        for (int i = 0; i < BLOCK / 2; ++i)
            codes[block * BLOCK / 2 + i] = static_cast<uint8_t>(nibbles[2 * i] | nibbles[2 * i + 1] << 4);
    }
}

}  // namespace

// weight bf16, `count` blocks of 16 one after the other; g: the global scale.
extern "C" void slipway_nvfp4(const uint16_t *weight, int64_t count, float g, uint8_t *codes, uint8_t *scales) {
    int64_t at = 0;
    for (; at + GROUP <= count; at += GROUP)
        blocks(weight + at * BLOCK, GROUP, g, codes + at * BLOCK / 2, scales + at);
    if (at < count) blocks(weight + at * BLOCK, static_cast<int>(count - at), g, codes + at * BLOCK / 2, scales + at);
}

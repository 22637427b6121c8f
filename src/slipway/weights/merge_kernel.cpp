// The correctly rounded merge of a band of rows, fused: product, addition at both ends of its error, rounding, and what
// those ends leave open decided in fp64. The mathematics is in rounded_merge.py, of which this is steps 1 and 2.
//
// Plain loops over tiles of fixed size, which compilers turn into vectors of any width; only the product is written in
// vectors, because its sums must stay in registers. A compiler may contract a product and a sum here, which only takes
// a rounding away from what the bounds allow for. It may not reorder sums or drop a rounding: no -ffast-math.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16, VECTORS = 4;
#elif defined(__AVX__)
constexpr int LANES = 8, VECTORS = 2;
#else
constexpr int LANES = 4, VECTORS = 4;
#endif
constexpr int ROWS = 4;             // of a tile; with VECTORS, as many sums as there are registers for
constexpr int TILE = 64;            // columns of a tile
constexpr int64_t PANEL = 1024;     // columns of A that are packed together: rank 16 takes 64 KB, which stay in L2
constexpr double U64 = 0x1p-53 * 1.01;
constexpr int32_t INF = 0x7f800000, MAGNITUDE = 0x7fffffff;

typedef float Vector __attribute__((vector_size(LANES * 4), aligned(4)));

inline uint32_t bits(float x) {
    uint32_t u;
    std::memcpy(&u, &x, 4);
    return u;
}

inline float value(uint32_t u) {
    float x;
    std::memcpy(&x, &u, 4);
    return x;
}

// fp32 to bf16, to nearest, ties to even; every NaN becomes torch's.
inline uint16_t bf16(float x) {
    const uint32_t u = bits(x), rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    return static_cast<uint16_t>(static_cast<int32_t>(u & MAGNITUDE) > INF ? 0x7fc0 : rounded);
}

inline float plus(float weight, float delta) { return weight + (delta == 0 ? 0.0f : delta); }

struct Update {
    const float *b, *scaled;  // B, and s * B rounded: [rows, rank]
    const float *bound;       // [rows]
    int64_t rank;
    double scaling;
};

// sums[r][j] = scaled[r] . panel[:, j], of ROWS rows and TILE columns; a panel is [tile][rank][TILE].
inline void product(const float *const *scaled, const float *panel, int64_t rank, float (*sums)[TILE]) {
    for (int column = 0; column < TILE; column += LANES * VECTORS) {
        Vector sum[ROWS][VECTORS] = {};
        const float *a = panel + column;
        for (int64_t k = 0; k < rank; ++k, a += TILE)
            for (int v = 0; v < VECTORS; ++v) {
                const Vector column_values = *reinterpret_cast<const Vector *>(a + v * LANES);
                for (int r = 0; r < ROWS; ++r) sum[r][v] += scaled[r][k] * column_values;
            }
        for (int r = 0; r < ROWS; ++r)
            for (int v = 0; v < VECTORS; ++v)
                *reinterpret_cast<Vector *>(&sums[r][column + v * LANES]) = sum[r][v];
    }
}

// out = bf16(weight + sum) at the upper end of the error, `most` the largest magnitudes so far, column by column.
// Whether the lower end gives another value in any column; `differ` then says in which.
inline bool add(const float *weight, const float *sum, float bound, uint16_t *out, uint16_t *differ, uint16_t *most) {
    uint16_t any = 0;
    for (int j = 0; j < TILE; ++j) {
        out[j] = bf16(weight[j] + (sum[j] + bound));
        differ[j] = out[j] ^ bf16(weight[j] + (sum[j] - bound));
        any |= differ[j];
        const uint16_t magnitude = out[j] & 0x7fff;
        most[j] = magnitude > most[j] ? magnitude : most[j];
    }
    return any;
}

// Step 2 for one element: in fp64, where a product of two fp32 values is exact. False where it stays open.
inline bool settle(const Update &update, int64_t row, const float *a, float weight, uint16_t *out) {
    const float *b = update.b + row * update.rank;
    double sum = 0, size = 0;
    for (int64_t k = 0; k < update.rank; ++k) {
        const double term = static_cast<double>(b[k]) * a[k * TILE];
        sum += term;
        size += std::fabs(term);
    }
    const double middle = sum * update.scaling;
    const double error = static_cast<double>(update.rank + 2) * U64 * std::fabs(update.scaling) * size;
    *out = bf16(plus(weight, static_cast<float>(middle + error)));
    return *out == bf16(plus(weight, static_cast<float>(middle - error)));
}

// fp32 of `count` weights from element `at` on.
inline void widen(const void *weight, bool is_bf16, int64_t at, int count, float *out) {
    if (is_bf16) {
        const uint16_t *values = static_cast<const uint16_t *>(weight) + at;
        for (int j = 0; j < count; ++j) out[j] = value(static_cast<uint32_t>(values[j]) << 16);
    } else {
        std::memcpy(out, static_cast<const float *>(weight) + at, count * sizeof(float));
    }
}

// What fp64 leaves open, and the largest magnitude, before or after, of what fp32 left open.
struct Open {
    int64_t *index, room, count;
    uint16_t largest;

    void see(uint16_t value) { largest = (value & 0x7fff) > largest ? value & 0x7fff : largest; }
};

struct Band {
    const void *weight;
    bool is_bf16;
    int64_t columns;
    uint16_t *out;
};

// One row of a tile, `inside` of its columns being columns of the weight. Called with a constant for whole tiles.
inline void merge_row(const Band &band, const Update &update, int64_t row, int64_t left, int inside, const float *a,
                      const float *sum, uint16_t *most, Open &open) {
    alignas(64) float values[TILE] = {};
    alignas(64) uint16_t merged[TILE], differ[TILE];
    const int64_t flat = row * band.columns + left;
    widen(band.weight, band.is_bf16, flat, inside, values);
    uint16_t padded[TILE] = {};  // columns beyond the last have no magnitude
    const bool any = add(values, sum, update.bound[row], merged, differ, inside == TILE ? most : padded);
    for (int j = 0; inside != TILE && j < inside; ++j) most[j] = padded[j] > most[j] ? padded[j] : most[j];
    if (any)
        for (int word = 0; word < TILE; word += 4) {  // few differ: four are looked at in one step
            uint64_t four;
            std::memcpy(&four, differ + word, 8);
            if (!four) continue;
            for (int j = word; j < word + 4 && j < inside; ++j) {
                if (!differ[j]) continue;
                open.see(merged[j]);
                if (!settle(update, row, a + j, values[j], merged + j)) {
                    if (open.count < open.room) open.index[open.count] = flat + j;
                    ++open.count;
                }
                open.see(merged[j]);
            }
        }
    std::memcpy(band.out + flat, merged, inside * sizeof(uint16_t));
}

// Columns `left` to `left + width` of A as tiles [tile][rank][TILE], the last one filled up with zeros.
inline void pack(const float *a, int64_t columns, int64_t rank, int64_t left, int64_t width, float *panel) {
    for (int64_t at = 0; at < width; at += TILE) {
        const int64_t inside = width - at < TILE ? width - at : TILE;
        for (int64_t k = 0; k < rank; ++k) {
            float *to = panel + at * rank + k * TILE;
            std::memcpy(to, a + k * columns + left + at, inside * sizeof(float));
            std::memset(to + inside, 0, (TILE - inside) * sizeof(float));
        }
    }
}

}  // namespace

// The largest magnitude of bf16 values: the bits of |x| are in the order of |x|, infinity and NaN above all.
extern "C" uint16_t slipway_largest(const uint16_t *values, int64_t count) {
    uint16_t most = 0;
    for (int64_t i = 0; i < count; ++i) {
        const uint16_t magnitude = values[i] & 0x7fff;
        most = magnitude > most ? magnitude : most;
    }
    return most;
}

// out [rows, columns] bf16 = the merge of weight (bf16 or fp32) and s * B A; a: [rank, columns]; panel: room for
// rank * 1024 floats. Writes the largest bf16 magnitude of out, and up to `room` flat indices of elements that fp64
// leaves open, which have the upper end in out. Returns how many there are; what is beyond `room` is not listed.
extern "C" int64_t slipway_merge(const void *weight, int32_t is_bf16, const float *a, const float *b,
                                 const float *scaled, const float *bound, double scaling, int64_t rows,
                                 int64_t columns, int64_t rank, float *panel, uint16_t *out, int64_t *index,
                                 int64_t room, uint16_t *largest) {
    const Update update = {b, scaled, bound, rank, scaling};
    const Band band = {weight, is_bf16 != 0, columns, out};
    Open open = {index, room, 0, 0};
    alignas(64) float sums[ROWS][TILE];
    alignas(64) uint16_t most[TILE] = {};
    for (int64_t left = 0; left < columns; left += PANEL) {
        const int64_t width = columns - left < PANEL ? columns - left : PANEL;
        pack(a, columns, rank, left, width, panel);
        for (int64_t row = 0; row < rows; row += ROWS) {
            const float *lines[ROWS];  // beyond the last row the last one again, whose sums nobody reads
            for (int r = 0; r < ROWS; ++r) lines[r] = scaled + (row + r < rows ? row + r : rows - 1) * rank;
            for (int64_t at = 0; at < width; at += TILE) {
                const float *tile = panel + at * rank;
                product(lines, tile, rank, sums);
                const int inside = static_cast<int>(width - at);
                for (int r = 0; r < ROWS && row + r < rows; ++r)
                    if (inside >= TILE)
                        merge_row(band, update, row + r, left + at, TILE, tile, sums[r], most, open);
                    else
                        merge_row(band, update, row + r, left + at, inside, tile, sums[r], most, open);
            }
        }
    }
    *largest = slipway_largest(most, TILE);
    if (open.largest >= *largest) *largest = slipway_largest(out, rows * columns);  // it was open, and may have changed
    return open.count;
}

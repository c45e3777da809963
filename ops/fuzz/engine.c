/* What must be fast in ops/fuzz: a pool of inputs, mutations of them, and a map of the edges that the code under test has taken.

   The mutated input is made right in the slot, a page that the parent maps too: when this process dies, the input that
   killed it is still there. The map is filled by a build with -fsanitize-coverage=trace-pc, whose calls come to
   __sanitizer_cov_trace_pc; it only ever grows, so an input is worth keeping when the count of edges went up with it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT = 1 << 17, POOL = 4096, POOL_BYTES = 16 << 20, WORDS = 1024, SMALL = 4096 };

struct slot { uint64_t number, size, bits; uint8_t bytes[LIMIT]; };
struct piece { uint8_t *at; uint32_t size; };

static struct slot *slot;
static struct piece pool[POOL], words[WORDS];
static uint32_t pool_count, word_count;
static uint64_t pool_bytes, state;

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t draw(void) {
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint32_t below(uint32_t bound) { return (uint32_t) (((draw() >> 32) * bound) >> 32); }

uint32_t engine_limit(void) { return LIMIT; }

void engine_open(void *page, uint64_t seed) {
    slot = page;
    state = seed;
}

/* 1: kept. A full pool forgets one at random. */
int engine_add(const uint8_t *at, uint32_t size) {
    struct piece *to;
    if (size > LIMIT / 2) return 0;
    if (pool_count < POOL && pool_bytes + size <= POOL_BYTES) to = &pool[pool_count++];
    else {
        to = &pool[below(pool_count)];
        pool_bytes -= to->size;
        free(to->at);
    }
    to->at = malloc(size ? size : 1);
    memcpy(to->at, at, size);
    to->size = size;
    pool_bytes += size;
    return 1;
}

int engine_word(const uint8_t *at, uint32_t size) {
    if (word_count == WORDS) return 0;
    words[word_count].at = malloc(size ? size : 1);
    memcpy(words[word_count].at, at, size);
    words[word_count++].size = size;
    return 1;
}

uint64_t engine_pool_bytes(void) { return pool_bytes; }

/* Replaces `gone` bytes at `where` by the bytes given; what does not fit is left as it is. */
static uint32_t splice(uint32_t size, uint32_t where, uint32_t gone, const uint8_t *at, uint32_t count) {
    if (size - gone + count > LIMIT) return size;
    memmove(slot->bytes + where + count, slot->bytes + where + gone, size - where - gone);
    memcpy(slot->bytes + where, at, count);
    return size - gone + count;
}

static const uint8_t ODD[] = {0, 1, 9, 10, 11, 13, 31, 32, 34, 43, 44, 45, 48, 58, 59, 61, 95, 127, 128, 160, 255};
static const uint32_t NUMBERS[] = {0, 1, 2, 4, 16, 127, 128, 255, 256, 4095, 32767, 32768, 65534, 65535, 0x7fffffff, 0xffffffff};

static uint32_t mutate(uint32_t size) {
    uint32_t where = below(size + 1), left = size - where, count, i;
    uint8_t made[64];
    const struct piece *other;
    switch (below(13)) {
    case 0:
        if (left) slot->bytes[where] ^= 1 << below(8);
        return size;
    case 1:
        if (left) slot->bytes[where] = (uint8_t) draw();
        return size;
    case 2:
        if (left) slot->bytes[where] = ODD[below(sizeof ODD)];
        return size;
    case 3:
        return splice(size, where, 0, &ODD[below(sizeof ODD)], 1);
    case 4:
        count = left ? 1 + below(left < 8 ? left : 8) : 0;
        return splice(size, where, count, made, 0);
    case 5:
        count = left ? 1 + below(left) : 0;
        return splice(size, where, count, made, 0);
    case 6: case 7:
        if (!word_count) return size;
        other = &words[below(word_count)];
        return splice(size, where, 0, other->at, other->size);
    case 8:
        if (!word_count) return size;
        other = &words[below(word_count)];
        return splice(size, where, left < other->size ? left : other->size, other->at, other->size);
    case 9: /* a number, little endian, as all of our frames have it */
        i = NUMBERS[below(sizeof NUMBERS / 4)];
        count = 1 << below(3);
        memcpy(made, &i, 4);
        if (below(2)) for (i = 0; i < count / 2; i++) { uint8_t c = made[i]; made[i] = made[count - 1 - i]; made[count - 1 - i] = c; }
        return splice(size, where, left < count ? left : count, made, count);
    case 10: /* a part of it again */
        count = left ? 1 + below(left < 64 ? left : 64) : 0;
        memcpy(made, slot->bytes + where, count);
        return splice(size, below(size + 1), 0, made, count);
    case 11: /* a part of another */
        other = &pool[below(pool_count)];
        i = below(other->size + 1);
        count = below(other->size - i + 1);
        if (count > SMALL) count = SMALL;
        return splice(size, where, below(2) ? 0 : left < count ? left : count, other->at + i, count);
    default: /* the head of this, the tail of another */
        other = &pool[below(pool_count)];
        i = below(other->size + 1);
        count = other->size - i;
        if (count > SMALL) count = SMALL;
        return splice(size, where, left, other->at + i, count);
    }
}

/* Puts the next input into the slot. Returns 32 random bits, for whatever else the target has to choose; they are in the
   slot too. */
uint32_t engine_next(void) {
    const struct piece *from = &pool[below(pool_count)];
    uint32_t size, turns;
    /* Large ones cost most and find least. */
    while (from->size > SMALL && below(64)) from = &pool[below(pool_count)];
    memcpy(slot->bytes, from->at, size = from->size);
    /* Mostly one or two changes: what is changed in many places is refused at the first of them. */
    for (turns = 1; turns < 16 && below(2); turns++) size = mutate(size);
    size = mutate(size);
    slot->size = size;
    slot->bits = draw() >> 32;
    __atomic_store_n(&slot->number, slot->number + 1, __ATOMIC_RELEASE);
    return (uint32_t) slot->bits;
}

/* Edges */

static uint8_t seen[1 << 18];
static uint64_t edges;
static __thread uintptr_t before;

void __sanitizer_cov_trace_pc(void) {
    uintptr_t here = (uintptr_t) __builtin_return_address(0);
    uint32_t at = (uint32_t) (((here ^ (before >> 1)) * 0x9e3779b97f4a7c15u) >> 46);
    before = here;
    if (!seen[at]) {
        seen[at] = 1;
        edges++;
    }
}

uint64_t engine_edges(void) { return edges; }

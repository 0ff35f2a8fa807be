/* Hostile clients and backends of datagrams: fast senders of what nobody should send.

   tests/sanitize/hostile.py compiles it and calls it from threads of its own, without the interpreter's lock.  */

#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define BATCH 32
#define LARGEST 65507
#define HEADER 12   /* octets of a DNS message before its question */
#define PEERS 16

struct shared {
    volatile long stop;
    volatile long sent;      /* by all clients and backends */
    volatile long received;  /* answers that clients got */
    volatile long bad;       /* answers that cannot be ones */
};

static uint32_t rnd(uint64_t *state)
{
    *state ^= *state << 13, *state ^= *state >> 7, *state ^= *state << 17;
    return *state >> 32;
}

static int one_in(uint64_t *state, uint32_t times)
{
    return rnd(state) % times == 0;
}

static void noise(uint8_t *at, size_t size, uint64_t *state)
{
    for (size_t i = 0; i < size; i++)
        at[i] = rnd(state);
}

/* Sizes near the borders that parsers have, and now and then the largest ones. */
static size_t some_size(uint64_t *state)
{
    switch (rnd(state) % 64) {
    case 0: return 60000 + rnd(state) % (LARGEST - 60000 + 1);
    case 1: return 1000 + rnd(state) % 1000;
    case 2: return 500 + rnd(state) % 30;
    default: return rnd(state) % 64;
    }
}

static const uint8_t borders[] = {0, 1, 2, 0x0f, 0x10, 0x3f, 0x40, 0x41, 0x7f, 0x80, 0xbf, 0xc0, 0xc1, 0xfe, 0xff, 12};

static size_t mutate(uint8_t *data, size_t size, const uint8_t *other, size_t other_size, uint64_t *state)
{
    int times = 1 + rnd(state) % 4;
    while (times--) {
        size_t at = size ? rnd(state) % size : 0, length;
        switch (size ? rnd(state) % 9 : 6) {
        case 0: /* a bit */
            data[at] ^= 1 << rnd(state) % 8;
            break;
        case 1: /* an octet: lengths and pointers */
            data[at] = borders[rnd(state) % sizeof borders];
            break;
        case 2: /* cut off */
            size = at;
            break;
        case 3: /* some field of a header */
            at = rnd(state) % 28;
            if (at < size)
                data[at] = one_in(state, 2) ? rnd(state) : borders[rnd(state) % sizeof borders];
            break;
        case 4: /* a run again */
            length = rnd(state) % 64;
            if (at + length <= size && size + length <= LARGEST) {
                memmove(data + at + length, data + at, size - at);
                size += length;
            }
            break;
        case 5: /* a run left out */
            length = rnd(state) % 64;
            if (at + length <= size) {
                memmove(data + at, data + at + length, size - at - length);
                size -= length;
            }
            break;
        case 6: /* something behind it */
            length = some_size(state);
            if (size + length <= LARGEST) {
                noise(data + size, length < 64 ? length : 64, state);
                size += length;
            }
            break;
        case 7: /* the head of this one, the tail of another one */
            if (other_size && at < other_size) {
                memcpy(data + at, other + at, other_size - at);
                size = other_size;
            }
            break;
        case 8: /* a pointer of a compressed name */
            if (at + 1 < size)
                data[at] = 0xc0, data[at + 1] = one_in(state, 2) ? at : rnd(state);
            break;
        }
    }
    return size;
}

/* Wait while too much is under way: the kernel would drop it.  What was dropped before counts until a pause is over. */
static void pace(struct shared *shared, volatile long *taken, long *lost, long window)
{
    struct timespec pause = {0, 100000};
    for (int waited = 0; shared->sent - *taken - *lost > window && !shared->stop; waited++) {
        if (waited == 200) {
            *lost = shared->sent - *taken;
            break;
        }
        nanosleep(&pause, NULL);
    }
}

/* Sends `count` datagrams over connected sockets: valid ones, mutated ones and noise; reads what is answered. */
EXPORT void hostile_clients(const int *fds, int sockets, const uint8_t *corpus, const uint32_t *ends, int pieces,
                            int dns, uint64_t seed, long count, struct shared *shared, volatile long *taken, long window)
{
    static __thread uint8_t room[BATCH][LARGEST + 1];
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    uint64_t state = seed * 2654435761u + 88172645463325252u;
    long lost = 0;
    for (long done = 0; done < count && !shared->stop; done += BATCH) {
        memset(messages, 0, sizeof messages);
        for (int i = 0; i < BATCH; i++) {
            int piece = rnd(&state) % pieces, other = rnd(&state) % pieces;
            uint32_t from = piece ? ends[piece - 1] : 0, other_from = other ? ends[other - 1] : 0;
            size_t size = ends[piece] - from;
            memcpy(room[i], corpus + from, size);
            switch (rnd(&state) % 10) {
            case 0:
                size = some_size(&state);
                noise(room[i], size < 2048 ? size : 2048, &state);
                break;
            case 1: case 2: case 3: /* as it should be; with an ID of its own if it is a query */
                if (dns && size > 2)
                    noise(room[i], 2, &state);
                break;
            default:
                size = mutate(room[i], size, corpus + other_from, ends[other] - other_from, &state);
            }
            vectors[i] = (struct iovec){room[i], size};
            messages[i].msg_hdr.msg_iov = &vectors[i];
            messages[i].msg_hdr.msg_iovlen = 1;
        }
        int fd = fds[rnd(&state) % sockets];
        for (int at = 0; at < BATCH;) {
            int sent = sendmmsg(fd, messages + at, BATCH - at, 0);
            if (sent > 0)
                at += sent, __sync_fetch_and_add(&shared->sent, sent);
            else
                at++; /* an ICMP error, or one that is too large */
        }
        uint8_t answer[512];
        ssize_t got;
        fd = fds[rnd(&state) % sockets];
        while ((got = recv(fd, answer, sizeof answer, MSG_DONTWAIT | MSG_TRUNC)) >= 0) {
            __sync_fetch_and_add(&shared->received, 1);
            if (dns && (got < HEADER || !(answer[2] & 0x80)))
                __sync_fetch_and_add(&shared->bad, 1);
        }
        pace(shared, taken, &lost, window);
    }
}

/* Answers what arrives at a bound socket: well, wrongly, twice, late, to others, or not at all. */
EXPORT void hostile_backend(int fd, int dns, uint64_t seed, struct shared *shared)
{
    static __thread uint8_t room[BATCH][LARGEST + 1], answer[LARGEST + 1], before[LARGEST + 1];
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    struct sockaddr_storage names[BATCH], peers[PEERS];
    socklen_t lengths[PEERS] = {0};
    uint64_t state = seed * 2654435761u + 88172645463325252u;
    size_t before_size = 0;
    while (!shared->stop) {
        memset(messages, 0, sizeof messages);
        for (int i = 0; i < BATCH; i++) {
            vectors[i] = (struct iovec){room[i], LARGEST};
            messages[i].msg_hdr.msg_iov = &vectors[i];
            messages[i].msg_hdr.msg_iovlen = 1;
            messages[i].msg_hdr.msg_name = &names[i];
            messages[i].msg_hdr.msg_namelen = sizeof names[i];
        }
        int got = recvmmsg(fd, messages, BATCH, MSG_WAITFORONE, NULL); /* the socket has a time-out */
        for (int i = 0; i < got; i++) {
            size_t size = messages[i].msg_len;
            int times = 1, peer = rnd(&state) % PEERS;
            struct sockaddr_storage *to = &names[i];
            socklen_t length = messages[i].msg_hdr.msg_namelen;
            memcpy(answer, room[i], size);
            if (dns && size > 3)
                answer[2] |= 0x80;
            switch (rnd(&state) % 24) {
            case 0: times = 0; break;
            case 1: times = 2 + rnd(&state) % 3; break;
            case 2: noise(answer, size < 2 ? size : 2, &state); break; /* another ID */
            case 3: size = mutate(answer, size, before, before_size, &state); break;
            case 4: size = mutate(answer, size, before, before_size, &state); break;
            case 5: size = some_size(&state); noise(answer, size < 2048 ? size : 2048, &state); break;
            case 6: size = rnd(&state) % (size + 1); break;
            case 7: if (size > HEADER) answer[HEADER + rnd(&state) % (size - HEADER)] ^= 0x20; break; /* case of a letter */
            case 8: if (size > HEADER) answer[HEADER + rnd(&state) % (size - HEADER)] ^= 1; break;
            case 9: if (size > 3) answer[3] = rnd(&state); break; /* an error, perhaps */
            case 10: if (size > HEADER) size = HEADER, answer[5] = 0; break; /* an error without question */
            case 11: if (lengths[peer]) to = &peers[peer], length = lengths[peer]; break; /* somebody else's */
            case 12: if (before_size) memcpy(answer, before, size = before_size); break; /* an answer of before */
            case 13: if (one_in(&state, 20)) size = LARGEST; break;
            }
            while (times--) {
                if (sendto(fd, answer, size, 0, (struct sockaddr *)to, length) >= 0)
                    __sync_fetch_and_add(&shared->sent, 1);
            }
            if (one_in(&state, 4)) {
                peers[peer] = names[i];
                lengths[peer] = messages[i].msg_hdr.msg_namelen;
            }
            if (one_in(&state, 4))
                memcpy(before, room[i], before_size = messages[i].msg_len);
        }
    }
}

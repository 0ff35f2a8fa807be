/* Failing system calls: a library for LD_PRELOAD that lets the calls of chosen threads fail as rules say.

   tests/sanitize/faults.py compiles it and says what each function does.  What fails keeps the kernel's promises: a call
   that "would block", or that takes less than it was offered, is followed by an edge of the descriptor's epoll set.

   Memory fails in native modules of the relay only, in calls of CPython's raw and object-independent allocators
   (PyMem_Malloc and its kin) and of malloc; CPython's own code gets what it asks for.  */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define SHORT (-1)   /* a way to fail: less than was asked for */
#define WAYS 8
#define MODULES 64
#define DESCRIPTORS 65536

#define CALLS(of) \
    of(recvmmsg) of(sendmmsg) of(recv) of(send) of(recvfrom) of(sendto) of(recvmsg) of(sendmsg) of(accept4) \
    of(connect) of(socket) of(bind) of(setsockopt) of(getsockopt) of(getsockname) of(shutdown) of(splice) of(pipe2) \
    of(fcntl) of(ioctl) of(epoll_ctl) of(epoll_wait) of(memory)
#define NUMBER(name) CALL_##name,
enum { CALLS(NUMBER) COUNT };
#define NAME(name) #name,
static const char *const names[] = {CALLS(NAME)};

struct rule {
    int way;
    uint32_t chance;  /* of 2^32 */
    long nth;         /* counts down; at 1 the call fails */
};

static struct {
    struct rule rules[WAYS];
    int count;
    volatile long seen, failed;
} calls[COUNT];

static volatile long datagrams;
static struct { uintptr_t from, to; } modules[MODULES];
static int module_count;
/* The set that has a descriptor, and what it waits for there. */
static struct { int epoll; struct epoll_event event; } watched[DESCRIPTORS];

static __thread int subject __attribute__((tls_model("initial-exec")));
static __thread int inside __attribute__((tls_model("initial-exec")));
static uint64_t state = 1;

static uint32_t rnd(void)
{
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state >> 32;
}

/* Returns 0, or the way in which this call fails. */
static int fails(int call)
{
    if (!subject || inside)
        return 0;
    calls[call].seen++;
    for (int i = 0; i < calls[call].count; i++) {
        struct rule *rule = &calls[call].rules[i];
        if ((rule->nth > 0 && --rule->nth == 0) || (rule->chance && rnd() < rule->chance)) {
            calls[call].failed++;
            return rule->way;
        }
    }
    return 0;
}

/* An edge, as if the descriptor had become ready after the call that failed. */
static void edge(int fd)
{
    static int (*real)(int, int, int, struct epoll_event *);
    int before = errno;
    if (!real)
        real = dlsym(RTLD_NEXT, "epoll_ctl");
    if (fd >= 0 && fd < DESCRIPTORS && watched[fd].event.events)
        real(watched[fd].epoll, EPOLL_CTL_MOD, fd, &watched[fd].event);
    errno = before;
}

static int fail(int fd, int way)
{
    if (way == EAGAIN)
        edge(fd);
    errno = way;
    return -1;
}

static int is_stream(int fd)
{
    static int (*real)(int, int, int, void *, socklen_t *);
    int type = 0;
    socklen_t size = sizeof type;
    if (!real)
        real = dlsym(RTLD_NEXT, "getsockopt");
    return real(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 && type == SOCK_STREAM;
}

static size_t less(size_t size)
{
    return size > 1 ? 1 + rnd() % (size - 1) : size;
}

/* Shortens a vector to fewer octets in all; `room` has as many places. */
static size_t fewer(const struct iovec *from, size_t count, struct iovec *room)
{
    size_t total = 0, used = 0;
    for (size_t i = 0; i < count; i++)
        total += from[i].iov_len;
    total = less(total);
    for (; used < count && total; used++) {
        room[used] = from[used];
        if (room[used].iov_len > total)
            room[used].iov_len = total;
        total -= room[used].iov_len;
    }
    return used;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) \
        real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define ERROR_ONLY(name, fd) \
    REAL(name); \
    int way = fails(CALL_##name); \
    if (way > 0) \
        return fail(fd, way)

EXPORT int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, struct timespec *timeout)
{
    ERROR_ONLY(recvmmsg, fd);
    int got = real(fd, messages, way == SHORT ? less(count) : count, flags, timeout);
    if (way == SHORT)
        edge(fd);
    if (subject && got > 0)
        datagrams += got;
    return got;
}

EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags)
{
    ERROR_ONLY(sendmmsg, fd);
    return real(fd, messages, way == SHORT ? less(count) : count, flags);
}

static ssize_t received(int fd, ssize_t size)
{
    if (subject && size >= 0 && !is_stream(fd))
        datagrams++;
    return size;
}

#define SHORTER(fd, size) \
    if (way == SHORT && is_stream(fd)) { \
        size = less(size); \
        edge(fd); \
    }

EXPORT ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    ERROR_ONLY(recv, fd);
    SHORTER(fd, size)
    return received(fd, real(fd, buffer, size, flags));
}

EXPORT ssize_t send(int fd, const void *buffer, size_t size, int flags)
{
    ERROR_ONLY(send, fd);
    SHORTER(fd, size)
    return real(fd, buffer, size, flags);
}

EXPORT ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *from, socklen_t *length)
{
    ERROR_ONLY(recvfrom, fd);
    SHORTER(fd, size)
    return received(fd, real(fd, buffer, size, flags, from, length));
}

EXPORT ssize_t sendto(int fd, const void *buffer, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
    ERROR_ONLY(sendto, fd);
    SHORTER(fd, size)
    return real(fd, buffer, size, flags, to, length);
}

EXPORT ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ERROR_ONLY(recvmsg, fd);
    if (way == SHORT && is_stream(fd)) {
        struct iovec room[message->msg_iovlen + 1], *before = message->msg_iov;
        size_t count = message->msg_iovlen;
        message->msg_iovlen = fewer(before, count, room);
        message->msg_iov = room;
        ssize_t size = real(fd, message, flags);
        message->msg_iov = before;
        message->msg_iovlen = count;
        edge(fd);
        return size;
    }
    return received(fd, real(fd, message, flags));
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    ERROR_ONLY(sendmsg, fd);
    if (way == SHORT && is_stream(fd)) {
        struct iovec room[message->msg_iovlen + 1];
        struct msghdr part = *message;
        part.msg_iovlen = fewer(message->msg_iov, message->msg_iovlen, room);
        part.msg_iov = room;
        edge(fd);
        return real(fd, &part, flags);
    }
    return real(fd, message, flags);
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    ERROR_ONLY(accept4, fd);
    return real(fd, address, size, flags);
}

EXPORT int connect(int fd, const struct sockaddr *address, socklen_t size)
{
    ERROR_ONLY(connect, -1);
    return real(fd, address, size);
}

EXPORT int socket(int family, int type, int protocol)
{
    ERROR_ONLY(socket, -1);
    return real(family, type, protocol);
}

EXPORT int bind(int fd, const struct sockaddr *address, socklen_t size)
{
    ERROR_ONLY(bind, -1);
    return real(fd, address, size);
}

EXPORT int setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
    ERROR_ONLY(setsockopt, -1);
    return real(fd, level, option, value, size);
}

EXPORT int getsockopt(int fd, int level, int option, void *value, socklen_t *size)
{
    ERROR_ONLY(getsockopt, -1);
    return real(fd, level, option, value, size);
}

EXPORT int getsockname(int fd, struct sockaddr *address, socklen_t *size)
{
    ERROR_ONLY(getsockname, -1);
    return real(fd, address, size);
}

EXPORT int shutdown(int fd, int how)
{
    ERROR_ONLY(shutdown, -1);
    return real(fd, how);
}

EXPORT ssize_t splice(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned int flags)
{
    REAL(splice);
    int way = fails(CALL_splice);
    if (way > 0) {
        fail(in, way);
        return fail(out, way);
    }
    if (way == SHORT) {
        edge(in);
        edge(out);
        size = less(size);
    }
    return real(in, from, out, to, size, flags);
}

EXPORT int pipe2(int ends[2], int flags)
{
    ERROR_ONLY(pipe2, -1);
    return real(ends, flags);
}

static int fcntl_(const char *name, int fd, int command, long argument)
{
    static int (*real)(int, int, long), (*real64)(int, int, long);
    if (!real)
        real = (int (*)(int, int, long))dlsym(RTLD_NEXT, "fcntl"), real64 = (int (*)(int, int, long))dlsym(RTLD_NEXT, "fcntl64");
    int way = fails(CALL_fcntl);
    if (way > 0)
        return fail(-1, way);
    return (name && real64 ? real64 : real)(fd, command, argument);
}

#define ONE_MORE(argument, last) \
    va_list rest; \
    va_start(rest, last); \
    long argument = va_arg(rest, long); \
    va_end(rest)

EXPORT int fcntl(int fd, int command, ...)
{
    ONE_MORE(argument, command);
    return fcntl_(NULL, fd, command, argument);
}

EXPORT int fcntl64(int fd, int command, ...)
{
    ONE_MORE(argument, command);
    return fcntl_("64", fd, command, argument);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    static int (*real)(int, unsigned long, long);
    ONE_MORE(argument, request);
    if (!real)
        real = (int (*)(int, unsigned long, long))dlsym(RTLD_NEXT, "ioctl");
    int way = fails(CALL_ioctl);
    return way > 0 ? fail(-1, way) : real(fd, request, argument);
}

EXPORT int epoll_ctl(int epoll, int action, int fd, struct epoll_event *event)
{
    /* An ADD may fail; that a DEL or a MOD fails for lack of something has not been seen. */
    static __typeof__(epoll_ctl) *real;
    if (!real)
        real = (__typeof__(epoll_ctl) *)dlsym(RTLD_NEXT, "epoll_ctl");
    int way = action == EPOLL_CTL_ADD ? fails(CALL_epoll_ctl) : 0;
    if (way > 0)
        return fail(-1, way);
    int done = real(epoll, action, fd, event);
    if (done == 0 && fd >= 0 && fd < DESCRIPTORS) {
        watched[fd].epoll = epoll;
        watched[fd].event.events = 0;
        if (action != EPOLL_CTL_DEL)
            watched[fd].event = *event;
    }
    return done;
}

EXPORT int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    ERROR_ONLY(epoll_wait, -1);
    return real(epoll, events, most, timeout);
}

/* -- memory */

typedef struct {
    void *ctx;
    void *(*malloc)(void *, size_t);
    void *(*calloc)(void *, size_t, size_t);
    void *(*realloc)(void *, void *, size_t);
    void (*free)(void *, void *);
} Allocator; /* PyMemAllocatorEx: https://docs.python.org/3/c-api/memory.html */

static Allocator before[2];

static int in_module(void *address)
{
    for (int i = 0; i < module_count; i++)
        if ((uintptr_t)address >= modules[i].from && (uintptr_t)address < modules[i].to)
            return 1;
    return 0;
}

/* The module calls PyMem_Malloc, which calls or jumps to the hook, which calls this. */
static int __attribute__((noinline)) no_memory(void)
{
    void *frames[4];
    if (!subject || inside || !calls[CALL_memory].count)
        return 0;
    inside = 1;
    int depth = backtrace(frames, 4), ours = 0;
    for (int i = 1; i < depth; i++)
        ours |= in_module(frames[i]);
    inside = 0;
    return ours && fails(CALL_memory);
}

static void *hook_malloc(void *own, size_t size)
{
    Allocator *real = own;
    return no_memory() ? NULL : real->malloc(real->ctx, size);
}

static void *hook_calloc(void *own, size_t count, size_t size)
{
    Allocator *real = own;
    return no_memory() ? NULL : real->calloc(real->ctx, count, size);
}

static void *hook_realloc(void *own, void *memory, size_t size)
{
    Allocator *real = own;
    return no_memory() ? NULL : real->realloc(real->ctx, memory, size);
}

static void hook_free(void *own, void *memory)
{
    Allocator *real = own;
    real->free(real->ctx, memory);
}

static int note(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)size, (void)unused;
    if (!strstr(info->dlpi_name, "/proxy/") || module_count == MODULES)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X && module_count < MODULES) {
            uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            modules[module_count].from = from;
            modules[module_count++].to = from + info->dlpi_phdr[i].p_memsz;
        }
    return 0;
}

/* -- control: faults.py says what these do */

EXPORT void faults_hook(void)
{
    void (*get)(int, Allocator *) = (void (*)(int, Allocator *))dlsym(RTLD_DEFAULT, "PyMem_GetAllocator");
    void (*set)(int, Allocator *) = (void (*)(int, Allocator *))dlsym(RTLD_DEFAULT, "PyMem_SetAllocator");
    void *frames[2];
    backtrace(frames, 2); /* the first one loads a library */
    module_count = 0;
    dl_iterate_phdr(note, NULL);
    if (!get || !set || before[0].malloc)
        return;
    for (int domain = 0; domain < 2; domain++) { /* PYMEM_DOMAIN_RAW and PYMEM_DOMAIN_MEM */
        Allocator hooked = {&before[domain], hook_malloc, hook_calloc, hook_realloc, hook_free};
        get(domain, &before[domain]);
        set(domain, &hooked);
    }
}

EXPORT void faults_here(int on)
{
    subject = on;
}

EXPORT int faults_number(const char *name)
{
    for (int i = 0; i < COUNT; i++)
        if (!strcmp(names[i], name))
            return i;
    return -1;
}

EXPORT const char *faults_name(int number)
{
    return number >= 0 && number < COUNT ? names[number] : NULL;
}

EXPORT int faults_rule(int call, int way, double chance, long nth)
{
    if (call < 0 || call >= COUNT || calls[call].count == WAYS)
        return -1;
    uint32_t of = chance >= 1.0 ? UINT32_MAX : (uint32_t)(chance * 4294967296.0);
    calls[call].rules[calls[call].count] = (struct rule){way, of, nth};
    calls[call].count++;
    return 0;
}

EXPORT void faults_clear(void)
{
    for (int i = 0; i < COUNT; i++)
        calls[i].count = 0;
}

EXPORT void faults_seed(uint64_t seed)
{
    state = seed * 2654435761u + 88172645463325252u;
}

EXPORT long faults_seen(int call)
{
    return calls[call].seen;
}

EXPORT long faults_failed(int call)
{
    return calls[call].failed;
}

EXPORT volatile long *faults_datagrams(void)
{
    return &datagrams;
}

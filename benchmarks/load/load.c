// A load of WebSockets, or of HTTP requests, from one thread with epoll; it is meant to cost less than any server under it.
//
//   load ws PORT PATH TOKENS   one token a line; commands on standard input, one JSON line each on standard output:
//     said TEXT                what the server's greeting contains; empty: there is none   (before open; default "hello")
//     opening TEXT             a frame to send after the upgrade                           (before open; default none)
//     ping TEXT | pong TEXT    a beat, and what its answer contains
//     open N RATE              N more sockets, RATE a second, each until the server has said that
//     beat RATE SECONDS        open loop, one socket after the other; every answer is waited for, at most five seconds,
//                              and its time counts from when the beat was due
//     live RATE CHURN SECONDS  the same while CHURN sockets a second are reset and opened again
//     watch TEXT N SECONDS     until N messages that contain TEXT have come
//     reset N                  ends the first N sockets with a TCP reset
//   load http PORT PATH K SECONDS [HEADER]   K keep-alive connections, each with one request after the other
//
// A server's Ping frames are answered. Exit code 1 with one sentence on standard error where something cannot be done.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

#define SOCKETS_MAX 64000
#define CALLS_MAX 4000000     // latencies kept of one command
#define PER_ADDRESS 15000     // ports of one loopback address
#define AT_ONCE 1000          // handshakes under way
#define PREFIX 256            // bytes of a message that are looked at
#define PATIENCE 5.0          // seconds until an answer counts as lost
#define SLOWEST 20.0          // times as long as it was to take until opening is given up

enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };
enum { CLOSED, CONNECTING, UPGRADING, GREETING, OPEN };

typedef struct {
    int fd, state, taken, head_size;
    uint64_t left;              // bytes of the payload that are still to come
    unsigned char head[10];
    char *text;                 // the head of the answer, then the first bytes of each message
    double asked;               // when the beat went that is not answered yet
} Socket;

static Socket sockets[SOCKETS_MAX];
static int count, standing, poller, port;
static const char *path;
static char **tokens;
static int tokens_count;
static char said[PREFIX] = "hello", opening[PREFIX], ping[PREFIX] = "{\"type\":\"ping\"}", pong[PREFIX] = "\"pong\"";
static const char *wanted;      // what counts now
static long found;
static float *calls;
static long calls_count;
static char first_error[PREFIX];
static int failed, under_way, awaited;

static void die(const char *format, ...) {
    va_list words;
    va_start(words, format);
    vfprintf(stderr, format, words);
    fputc('\n', stderr);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

static int order(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void took(double seconds) {
    if (calls_count < CALLS_MAX) calls[calls_count++] = (float)(seconds * 1e3);
}

static float quantile(double q) {
    return calls_count ? calls[(long)(q * (calls_count - 1))] : 0;
}

static void print_latency(void) {
    qsort(calls, calls_count, sizeof *calls, order);
    printf("\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f", quantile(.5), quantile(.99), quantile(1));
}

static int dial(int index) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    if (fd < 0) die("No more sockets: %s; the limit of descriptors (ulimit -n) must be above their number.", strerror(errno));
    setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002u + index / PER_ADDRESS)};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001u), .sin_port = htons(port)};
    if (bind(fd, (void *)&from, sizeof from) < 0) die("A loopback address cannot be used: %s.", strerror(errno));
    if (connect(fd, (void *)&to, sizeof to) < 0 && errno != EINPROGRESS) die("Nobody listens on port %d: %s.", port, strerror(errno));
    return fd;
}

static void end(Socket *s, const char *why, const char *more) {
    if (s->state != OPEN && s->state != CLOSED) {
        under_way--;
        failed++;
        if (!*first_error) snprintf(first_error, sizeof first_error, "%s%.100s", why, more);
    } else if (s->state == OPEN) {
        standing--;
        if (s->asked) awaited--;
    }
    close(s->fd);
    s->state = CLOSED;
    s->asked = 0;
}

static void reset(Socket *s) {
    struct linger now_ = {.l_onoff = 1, .l_linger = 0};
    setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &now_, sizeof now_);
    end(s, "", "");
}

static void send_frame(Socket *s, int opcode, const char *data, size_t size) {
    static const unsigned char key[4] = {0x5a, 0xa7, 0x13, 0xc4};
    unsigned char frame[PREFIX + 8];
    frame[0] = 0x80 | opcode;
    size_t head = 2;
    if (size < 126) {
        frame[1] = 0x80 | size;
    } else {
        frame[1] = 0x80 | 126, frame[2] = size >> 8, frame[3] = size & 255, head = 4;
    }
    memcpy(frame + head, key, 4);
    for (size_t n = 0; n < size; n++) frame[head + 4 + n] = data[n] ^ key[n & 3];
    size += head + 4;
    if (write(s->fd, frame, size) != (ssize_t)size) end(s, "The server did not read.", "");
}

static void send_text(Socket *s, const char *text) {
    send_frame(s, TEXT, text, strlen(text));
}

static void begin(int index) {
    Socket *s = &sockets[index];
    char *text = s->text ? s->text : malloc(4096);
    *s = (Socket){.fd = dial(index), .state = CONNECTING, .text = text, .asked = now()};
    under_way++;
    struct epoll_event event = {.events = EPOLLOUT | EPOLLIN, .data.u32 = index};
    epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &event);
}

static void greeted(Socket *s) {
    s->state = OPEN;
    took(now() - s->asked);
    s->asked = 0, standing++, under_way--;
}

static void heard(Socket *s) {
    int opcode = s->head[0] & 15;
    s->text[s->taken] = 0;
    if (opcode == PING) send_frame(s, PONG, s->text, s->taken);
    if (opcode >= CLOSE) return;
    if (s->state == GREETING) {
        if (strstr(s->text, said)) greeted(s);
        return;
    }
    if (wanted && strstr(s->text, wanted)) {
        found++;
        if (s->asked) took(now() - s->asked), awaited--;
        s->asked = 0;
    }
}

static void take(Socket *s, const unsigned char *data, size_t size) {
    for (size_t at = 0; at < size && s->state >= GREETING;) {
        if (s->left) {
            size_t part = size - at < s->left ? size - at : s->left;
            size_t room = PREFIX - 1 - s->taken, kept = part < room ? part : room;
            memcpy(s->text + s->taken, data + at, kept);
            s->taken += kept, s->left -= part, at += part;
            if (!s->left) heard(s), s->head_size = s->taken = 0;
            continue;
        }
        s->head[s->head_size++] = data[at++];
        int length = s->head_size > 1 ? s->head[1] & 127 : 0, wide = length == 126 ? 2 : length == 127 ? 8 : 0;
        if (s->head_size < 2 + wide) continue;
        s->left = wide ? 0 : length;
        for (int n = 0; n < wide; n++) s->left = s->left << 8 | s->head[2 + n];
        if ((s->head[0] & 15) == CLOSE) {
            end(s, "The server closed the socket.", "");
            return;
        }
        if (!s->left) heard(s), s->head_size = s->taken = 0;
    }
}

static void upgraded(Socket *s, int size) {
    s->taken += size;
    s->text[s->taken] = 0;
    char *ends = strstr(s->text, "\r\n\r\n");
    if (!ends) {
        if (s->taken > 3000) end(s, "The answer to a handshake has no end.", "");
        return;
    }
    if (strncmp(s->text, "HTTP/1.1 101", 12)) {
        *strchr(s->text, '\r') = 0;
        end(s, "A handshake was refused: ", s->text);
        return;
    }
    unsigned char rest[4096];
    int more = s->taken - (int)(ends + 4 - s->text);
    memcpy(rest, ends + 4, more);
    s->state = GREETING, s->taken = s->head_size = 0, s->left = 0;
    if (*opening) send_text(s, opening);
    if (!*said && s->state == GREETING) greeted(s);
    take(s, rest, more);
}

static void ready(int index, unsigned events) {
    static unsigned char data[1 << 17];
    Socket *s = &sockets[index];
    if (s->state == CLOSED) return;
    if (s->state == CONNECTING) {
        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP))) return;
        char request[2048];
        int size = snprintf(request, sizeof request,
            "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer %s\r\n\r\n",
            path, port, tokens[index % tokens_count]);
        if (write(s->fd, request, size) != size) {
            end(s, "A connection was refused: ", strerror(errno));
            return;
        }
        s->state = UPGRADING;
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = index};
        epoll_ctl(poller, EPOLL_CTL_MOD, s->fd, &event);
        return;
    }
    ssize_t size = s->state == UPGRADING ? read(s->fd, s->text + s->taken, 4095 - s->taken) : read(s->fd, data, sizeof data);
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) end(s, "A connection was lost: ", size ? strerror(errno) : "ended");
    else if (s->state == UPGRADING) upgraded(s, (int)size);
    else take(s, data, size);
}

static void turn(int wait_ms) {
    struct epoll_event events[512];
    int some = epoll_wait(poller, events, 512, wait_ms);
    for (int n = 0; n < some; n++) ready((int)events[n].data.u32, events[n].events);
}

static void open_more(int more, double rate) {
    if (count + more > SOCKETS_MAX) die("At most %d sockets, not %d.", SOCKETS_MAX, count + more);
    double began = now(), moved = began;
    int target = count + more, first = count, stood = standing;
    failed = calls_count = 0, *first_error = 0;
    while (standing + failed < stood + more) {
        while (count < target && under_way < AT_ONCE && count - first < (now() - began) * rate) begin(count++);
        int before = standing + failed;
        turn(count < target ? 1 : 50);
        if (standing + failed != before) moved = now();
        else if (now() - moved > 4 * PATIENCE) break;
        if (now() - began > SLOWEST * (1 + more / rate)) break;
    }
    printf("{\"opened\":%d,\"failed\":%d,\"error\":\"%s\",\"seconds\":%.3f,", standing - stood, more - standing + stood, first_error, now() - began);
    print_latency();
}

static void live(double rate, double churn, double seconds) {
    wanted = pong;
    for (double since = now(); awaited && now() - since < 4 * PATIENCE;) turn(10);  // those that were late before
    double began = now(), used = cpu();
    long sent = 0, answered_before = found = calls_count = 0;
    int next = 0, stood = standing, churned = 0, victim = 0;
    failed = 0, *first_error = 0;
    for (double at = 0; at < seconds; at = now() - began) {
        for (int most = 256; sent < at * rate && most--; sent++) {
            for (int tries = 0; tries < count && (sockets[next].state != OPEN || sockets[next].asked); tries++) next = (next + 1) % count;
            if (sockets[next].state != OPEN || sockets[next].asked) break;
            sockets[next].asked = began + sent / rate, awaited++;
            send_text(&sockets[next], ping);
            next = (next + 1) % count;
        }
        for (; churned < at * churn; churned++, victim = (victim + 1) % count) {
            if (sockets[victim].state != OPEN) continue;
            reset(&sockets[victim]);
            begin(victim);
        }
        turn(rate > 2000 ? 0 : 1);
    }
    double sending = now() - began;
    while (found - answered_before < sent && now() - began < seconds + PATIENCE) turn(10);
    printf("{\"sent\":%ld,\"answered\":%ld,\"lost\":%d,\"churned\":%d,\"seconds\":%.3f,\"cpu_s\":%.3f,\"error\":\"%s\",", sent, found, stood - standing - under_way, churned, sending, cpu() - used, first_error);
    print_latency();
}

static void watch(const char *text, long expected, double seconds) {
    double began = now(), first = 0, last = 0;
    wanted = text, found = 0;
    while (found < expected && now() - began < seconds) {
        long before = found;
        turn(5);
        if (found > before) last = now(), first = first ? first : last;
    }
    printf("{\"seen\":%ld,\"first_s\":%.6f,\"last_s\":%.6f,\"began_s\":%.6f", found, first, last, began);
}

static void reset_first(int most) {
    int ended = 0;
    for (int n = 0; n < count && ended < most; n++)
        if (sockets[n].state == OPEN) reset(&sockets[n]), ended++;
    printf("{\"reset\":%d,\"at_s\":%.6f", ended, now());
}

static char *rest(char *line, const char *word) {
    size_t size = strlen(word);
    return strncmp(line, word, size) || line[size] != ' ' ? NULL : line + size + 1;
}

static void keep(char *into, const char *text) {
    size_t size = strlen(text) + 1;
    if (size > PREFIX) die("A text has at most %d bytes.", PREFIX - 1);
    memcpy(into, text, size);
    printf("{\"kept\":true");
}

static void obey(char *line) {
    int number, more;
    double rate, churn, seconds;
    char *text, word[PREFIX];
    if ((text = rest(line, "said"))) keep(said, text);
    else if ((text = rest(line, "opening"))) keep(opening, text);
    else if ((text = rest(line, "ping"))) keep(ping, text);
    else if ((text = rest(line, "pong"))) keep(pong, text);
    else if (sscanf(line, "open %d %lf", &number, &rate) == 2) open_more(number, rate);
    else if (sscanf(line, "beat %lf %lf", &rate, &seconds) == 2) live(rate, 0, seconds);
    else if (sscanf(line, "live %lf %lf %lf", &rate, &churn, &seconds) == 3) live(rate, churn, seconds);
    else if (sscanf(line, "watch %255s %d %lf", word, &more, &seconds) == 3) watch(word, more, seconds);
    else if (sscanf(line, "reset %d", &number) == 1) reset_first(number);
    else die("%s: there is no such command; load.c lists them.", line);
    puts("}");
    fflush(stdout);
}

static void ask_for_sockets(const char *file) {
    static char line[4096];
    FILE *from = fopen(file, "r");
    if (!from) die("%s: %s.", file, strerror(errno));
    tokens = calloc(SOCKETS_MAX, sizeof *tokens);
    while (tokens_count < SOCKETS_MAX && fgets(line, sizeof line, from)) {
        line[strcspn(line, "\n")] = 0;
        tokens[tokens_count++] = strdup(line);
    }
    fclose(from);
    if (!tokens_count) die("%s: no token; one a line is expected.", file);
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = 0;
        obey(line);
    }
}

typedef struct {
    int fd, size;
    double asked;
    char text[8192];
} Asker;

// The size of a whole answer at the start of the text, 0 where it is not whole yet.
static int whole(const char *text, int size) {
    const char *ends = memmem(text, size, "\r\n\r\n", 4);
    if (!ends) return 0;
    int head = (int)(ends + 4 - text), body = 0;
    const char *length = strcasestr(text, "\r\ncontent-length:");
    if (length && length < ends) body = atoi(length + 17);
    if (!strncmp(text + 9, "304", 3)) body = 0;
    return size >= head + body ? head + body : 0;
}

static void ask_over_http(int most, double seconds, const char *header) {
    Asker *askers = calloc(most, sizeof *askers);
    char request[2048];
    int size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n%s%s\r\n", path, port, header, *header ? "\r\n" : "");
    for (int n = 0; n < most; n++) {
        askers[n].fd = dial(n);
        struct epoll_event event = {.events = EPOLLOUT, .data.u32 = n};
        epoll_ctl(poller, EPOLL_CTL_ADD, askers[n].fd, &event);
    }
    long done = 0, full = 0, same = 0;
    struct epoll_event events[512];
    double began = now(), used = cpu();
    while (now() - began < seconds) {
        int some = epoll_wait(poller, events, 512, 100);
        for (int n = 0; n < some; n++) {
            Asker *a = &askers[events[n].data.u32];
            if (a->asked) {
                ssize_t got = read(a->fd, a->text + a->size, sizeof a->text - 1 - a->size);
                if (got < 0 && errno == EAGAIN) continue;
                if (got <= 0) die("The server ended a connection after %ld answers.", done);
                a->size += (int)got, a->text[a->size] = 0;
                int answer = whole(a->text, a->size);
                if (!answer) continue;
                if (answer != a->size) die("An answer has %d bytes too many.", a->size - answer);
                done++, full += !strncmp(a->text + 9, "200", 3), same += !strncmp(a->text + 9, "304", 3);
                took(now() - a->asked);
            } else {
                struct epoll_event event = {.events = EPOLLIN, .data.u32 = events[n].data.u32};
                epoll_ctl(poller, EPOLL_CTL_MOD, a->fd, &event);
            }
            a->size = 0, a->asked = now();
            if (write(a->fd, request, size) != size) die("A request could not be sent: %s.", strerror(errno));
        }
    }
    printf("{\"answers\":%ld,\"of_200\":%ld,\"of_304\":%ld,\"seconds\":%.3f,\"cpu_s\":%.3f,", done, full, same, now() - began, cpu() - used);
    print_latency();
    puts("}");
}

int main(int size, char **words) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    calls = malloc(CALLS_MAX * sizeof *calls);
    poller = epoll_create1(0);
    if (size < 5) die("Expected: load ws PORT PATH TOKENS, or load http PORT PATH K SECONDS [HEADER].");
    port = atoi(words[2]), path = words[3];
    if (!strcmp(words[1], "ws") && size == 5) ask_for_sockets(words[4]);
    else if (!strcmp(words[1], "http") && size >= 6) ask_over_http(atoi(words[4]), atof(words[5]), size > 6 ? words[6] : "");
    else die("%s: expected ws or http.", words[1]);
    return 0;
}

// Runs a kernel's blocks and threads. Included after the kernels, once.
#pragma once

#include <setjmp.h>
#include <stdlib.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <barrier>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

thread_local uint3 threadIdx, blockIdx, blockDim, gridDim;

extern "C" char __start_emulated_shared[], __stop_emulated_shared[];

namespace emulation {

enum class Order { ascending, descending, random, threads };
enum Status { done, wrong_launch, wrong_synchronisation };

struct Settings {
    Order order = Order::ascending;
    unsigned seed = 0;
    std::string skipped_file;  // a barrier that is left out
    int skipped_line = 0;
};

static Settings settings;
static std::string error;
static std::mutex running;

static bool is_skipped(const char *file, int line) {
    if (line != settings.skipped_line) return false;
    const char *slash = strrchr(file, '/');
    return settings.skipped_file == (slash ? slash + 1 : file);
}

static int thread_number() { return threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z); }
static int threads_of_block() { return blockDim.x * blockDim.y * blockDim.z; }
static void set_thread(int number) {
    threadIdx = {number % blockDim.x, number / blockDim.x % blockDim.y, number / (blockDim.x * blockDim.y)};
}
int lane() { return thread_number() % WARP; }
int lanes() { return std::min(WARP, threads_of_block() - thread_number() / WARP * WARP); }

// Values on their way between the lanes of a warp. Two sets in turn: one is read while the next is written.
struct Mailbox {
    uint64_t values[2][WARP];
};

// What the threads of the current block run, and how they wait for each other.
struct Team {
    virtual ~Team() = default;
    virtual void wait_for_block(int line) = 0;
    virtual const uint64_t *exchange(uint64_t value) = 0;
};
static Team *team;

void sync_block(const char *file, int line) {
    if (!is_skipped(file, line)) team->wait_for_block(line);
}
const uint64_t *exchange(uint64_t value) { return team->exchange(value); }

// Fibers: a warp runs until all its threads wait for other warps, then the next one does. That is the unfairest order there is, so
// a missing barrier shows.
class Fibers : public Team {
  public:
    void seed(unsigned seed) { random.seed(seed); }

    // False if the threads of a block waited for each other in vain.
    bool run_block(void (*body)(const void *), const void *arguments) {
        size = threads_of_block();
        for (int i = int(fibers.size()); i < size; ++i) create(i);
        for (int i = 0; i < size; ++i) fibers[i]->state = State::ready;
        mailboxes.assign((size + WARP - 1) / WARP, {});
        this->body = body;
        this->arguments = arguments;
        finished = 0;
        while (finished < size) {
            int warps = (size + WARP - 1) / WARP;
            std::array<uint8_t, WARP> order = in_order(warps);
            for (int i = 0; i < warps; ++i) run_warp(order[i]);
            if (finished < size && !release()) return false;
        }
        return true;
    }

    void wait_for_block(int line) override { pause(State::at_block, line); }

    const uint64_t *exchange(uint64_t value) override {
        Fiber &fiber = *fibers[current];
        uint64_t *values = mailboxes[current / WARP].values[fiber.exchanges++ % 2];
        values[current % WARP] = value;
        pause(State::at_warp, 0);
        return values;
    }

  private:
    enum class State { ready, at_warp, at_block, finished };
    struct Fiber {
        State state;
        int line = 0;
        unsigned exchanges = 0;
        jmp_buf jump;
        ucontext_t context;
        std::unique_ptr<char[]> stack;
    };
    static constexpr size_t STACK = 128 * 1024;

    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Mailbox> mailboxes;
    jmp_buf scheduler;
    void (*body)(const void *) = nullptr;
    const void *arguments = nullptr;
    int size = 0, current = 0, finished = 0;
    std::mt19937 random;

    static void enter(unsigned low, unsigned high) {
        Fibers *self = reinterpret_cast<Fibers *>(uintptr_t(low) | uintptr_t(high) << 32);
        for (;;) self->run_thread();
    }

    // Waits to be started, runs the kernel for one thread of one block.
    __attribute__((noinline)) void run_thread() {
        if (_setjmp(fibers[current]->jump) == 0) _longjmp(scheduler, 1);
        body(arguments);
        fibers[current]->state = State::finished;
        fibers[current]->exchanges = 0;
        ++finished;
    }

    void create(int number) {
        fibers.push_back(std::make_unique<Fiber>());
        Fiber &fiber = *fibers.back();
        fiber.stack.reset(new char[STACK]);
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        uintptr_t self = reinterpret_cast<uintptr_t>(this);
        makecontext(&fiber.context, reinterpret_cast<void (*)()>(enter), 2, unsigned(self), unsigned(self >> 32));
        current = number;
        if (_setjmp(scheduler) == 0) setcontext(&fiber.context);
    }

    void pause(State state, int line) {
        Fiber &fiber = *fibers[current];
        fiber.state = state;
        fiber.line = line;
        if (_setjmp(fiber.jump) == 0) _longjmp(scheduler, 1);
    }

    void resume(int number) {
        current = number;
        set_thread(number);
        if (_setjmp(scheduler) == 0) _longjmp(fibers[number]->jump, 1);
    }

    // Runs the threads of a warp until each waits for the block or has finished, or no one can go on.
    void run_warp(int warp) {
        int first = warp * WARP, count = std::min(WARP, size - first);
        for (;;) {
            bool is_moving = false;
            std::array<uint8_t, WARP> order = in_order(count);
            for (int i = 0; i < count; ++i) {
                if (fibers[first + order[i]]->state != State::ready) continue;
                resume(first + order[i]);
                is_moving = true;
            }
            if (!is_moving && !release_warp(first, count)) return;
        }
    }

    bool release_warp(int first, int count) {
        for (int i = first; i < first + count; ++i)
            if (fibers[i]->state != State::at_warp) return false;
        for (int i = first; i < first + count; ++i) fibers[i]->state = State::ready;
        return true;
    }

    // Lets all threads pass the barrier at which they wait; false if not all are at the same one.
    bool release() {
        for (int i = 0; i < size; ++i)
            if (fibers[i]->state != State::at_block || fibers[i]->line != fibers[0]->line) return false;
        for (int i = 0; i < size; ++i) fibers[i]->state = State::ready;
        return true;
    }

    // 0 … count − 1, at most a warp of them, as the settings want them.
    std::array<uint8_t, WARP> in_order(int count) {
        std::array<uint8_t, WARP> order;
        for (int i = 0; i < count; ++i) order[i] = settings.order == Order::descending ? count - 1 - i : i;
        if (settings.order == Order::random) std::shuffle(order.begin(), order.begin() + count, random);
        return order;
    }
};

// Threads of the operating system with real barriers: they meet in any order, and really at once.
class Threads : public Team {
  public:
    Threads(int size) : of_block(size, Check{this}), size(size) {
        for (int first = 0; first < size; first += WARP) {
            of_warps.push_back(std::make_unique<std::barrier<>>(std::min(WARP, size - first)));
            mailboxes.emplace_back();
        }
    }

    void wait_for_block(int) override { of_block.arrive_and_wait(); }

    const uint64_t *exchange(uint64_t value) override {
        thread_local unsigned exchanges = 0;
        uint64_t *values = mailboxes[thread_number() / WARP].values[exchanges++ % 2];
        values[lane()] = value;
        of_warps[thread_number() / WARP]->arrive_and_wait();
        return values;
    }

    void leave() {
        ++leaving;
        of_warps[thread_number() / WARP]->arrive_and_drop();
        of_block.arrive_and_drop();
    }

    bool is_wrong() const { return wrong; }

  private:
    struct Check {
        Threads *team;
        void operator()() noexcept {
            int left = team->leaving.load();
            if (left > team->left_before && left < team->size) team->wrong = true;
            team->left_before = left;
        }
    };
    std::barrier<Check> of_block;
    std::vector<std::unique_ptr<std::barrier<>>> of_warps;
    std::vector<Mailbox> mailboxes;
    std::atomic<int> leaving = 0;
    int left_before = 0, size;
    bool wrong = false;
};

static bool run_block_in_threads(void (*body)(const void *), const void *arguments) {
    int size = threads_of_block();
    Threads threads(size);
    team = &threads;
    std::vector<std::thread> all;
    for (int number = 0; number < size; ++number)
        all.emplace_back([&, number, block = blockIdx, dim = blockDim, grid = gridDim] {
            blockIdx = block, blockDim = dim, gridDim = grid;
            set_thread(number);
            body(arguments);
            threads.leave();
        });
    for (std::thread &thread : all) thread.join();
    return !threads.is_wrong();
}

static bool run_block(Fibers &fibers, void (*body)(const void *), const void *arguments) {
    memset(__start_emulated_shared, 0xff, __stop_emulated_shared - __start_emulated_shared);
    if (settings.order == Order::threads) return run_block_in_threads(body, arguments);
    team = &fibers;
    return fibers.run_block(body, arguments);
}

static std::vector<unsigned> block_order(unsigned blocks) {
    std::vector<unsigned> order(blocks);
    for (unsigned i = 0; i < blocks; ++i) order[i] = settings.order == Order::descending ? blocks - 1 - i : i;
    std::mt19937 random(settings.seed);
    if (settings.order == Order::random) std::shuffle(order.begin(), order.end(), random);
    return order;
}

static Status run(void (*body)(const void *), const void *arguments, const char *kernel) {
    static Fibers *fibers = nullptr;
    if (fibers == nullptr) fibers = new Fibers;
    fibers->seed(settings.seed);
    for (unsigned block : block_order(gridDim.x * gridDim.y * gridDim.z)) {
        blockIdx = {block % gridDim.x, block / gridDim.x % gridDim.y, block / (gridDim.x * gridDim.y)};
        if (run_block(*fibers, body, arguments)) continue;
        fibers = nullptr;  // threads of it hang at a barrier for ever
        error = std::string(kernel) + ": threads of a block wait for others that have left, or that wait elsewhere";
        return wrong_synchronisation;
    }
    return done;
}

// A kernel's arguments as C packs them, taken apart by its parameters' types.
template <typename Function>
struct Arguments;

template <typename... Types>
struct Arguments<void (*)(Types...)> {
    using Tuple = std::tuple<Types...>;

    static size_t size() {
        size_t at = 0;
        ((at = (at + alignof(Types) - 1) / alignof(Types) * alignof(Types) + sizeof(Types)), ...);
        return at;
    }

    static Tuple unpack(const char *packed) {
        [[maybe_unused]] size_t at = 0;
        return Tuple{take<Types>(packed, at)...};
    }

    template <typename T>
    static T take(const char *packed, size_t &at) {
        T value;
        at = (at + alignof(T) - 1) / alignof(T) * alignof(T);
        memcpy(&value, packed + at, sizeof value);
        at += sizeof value;
        return value;
    }
};

struct Kernel {
    const char *name;
    size_t argument_bytes;
    Status (*launch)(const char *name, const char *packed);
};

template <auto function>
Kernel kernel(const char *name) {
    using Packed = Arguments<decltype(function)>;
    return {name, Packed::size(), [](const char *name, const char *packed) {
                auto arguments = Packed::unpack(packed);
                auto body = [](const void *tuple) { std::apply(function, *static_cast<const typename Packed::Tuple *>(tuple)); };
                return run(body, &arguments, name);
            }};
}

extern const std::vector<Kernel> kernels;

static const Kernel *find(const char *name) {
    for (const Kernel &kernel : kernels)
        if (strcmp(kernel.name, name) == 0) return &kernel;
    return nullptr;
}

static Status refuse(const std::string &what) {
    error = what;
    return wrong_launch;
}

}  // namespace emulation

// How threads take turns from now on: ascending, descending, random (seeded), threads.
extern "C" __attribute__((visibility("default"))) void emulated_order(int order, unsigned seed) {
    std::lock_guard lock(emulation::running);
    emulation::settings.order = static_cast<emulation::Order>(order);
    emulation::settings.seed = seed;
}

// Leaves a barrier out, by its file's name and line; line 0: none.
extern "C" __attribute__((visibility("default"))) void emulated_skip(const char *file, int line) {
    std::lock_guard lock(emulation::running);
    emulation::settings.skipped_file = file;
    emulation::settings.skipped_line = line;
}

// Whether there is such a kernel.
extern "C" __attribute__((visibility("default"))) int emulated_has(const char *kernel) { return emulation::find(kernel) != nullptr; }

// Why the last launch failed.
extern "C" __attribute__((visibility("default"))) const char *emulated_error() { return emulation::error.c_str(); }

// Runs a kernel; returns when it is done. 0, or what went wrong: see emulated_error.
extern "C" __attribute__((visibility("default"))) int emulated_launch(
    const char *name, const unsigned grid[3], const unsigned block[3], const void *packed, size_t size) {
    using namespace emulation;
    std::lock_guard lock(running);
    const Kernel *kernel = find(name);
    if (kernel == nullptr) return refuse(std::string(name) + ": no such kernel");
    if (size != kernel->argument_bytes)
        return refuse(
            std::string(name) + ": expected " + std::to_string(kernel->argument_bytes) + " bytes of arguments, got " +
            std::to_string(size));
    size_t threads = size_t(block[0]) * block[1] * block[2];
    if (threads == 0 || threads > 1024 || block[2] > 64) return refuse(std::string(name) + ": a block of 1 to 1024 threads is wanted");
    if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[1] > 65535 || grid[2] > 65535)
        return refuse(std::string(name) + ": no such grid");
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    return kernel->launch(name, static_cast<const char *>(packed));
}

// A CUDA driver without a GPU, for tests: what pycuda calls, over host memory.
//
// - Device memory lies in an address range of its own and is never given out twice: a host pointer where a device pointer belongs, the reverse,
//   and a freed one are refused. Fresh memory is filled with NaN.
// - Work is queued and runs as late, as early or as shuffled as the order that was set allows, so that a missing wait shows as wrong numbers.
// - A "cubin" is a shared library behind a small header (see nvcc.py); launching calls its `emulated_launch`.
// - Everything is counted. What a GPU would do undefined things with is an error here, and `standin_complaint` says which.

#include <cuda.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr uintptr_t kDeviceBase = 0x200000000000, kDeviceSpan = uintptr_t(1) << 37;
constexpr size_t kPage = 4096;

struct Block {
    size_t size;
    bool is_pinned;
    void *host;  // of pinned memory, where the host sees it
};

struct CUstream_standin;

struct Completion {
    CUstream_standin *stream;
    bool is_done = false;
    double time_ms = 0;
};
using Awaited = std::shared_ptr<Completion>;

struct Operation {
    std::function<CUresult()> run;
    Awaited awaits, completes;
};

struct CUstream_standin {
    bool is_blocking;
    std::deque<Operation> queue;
    std::vector<Operation> *recorded = nullptr;  // the graph that it records into, instead of queueing
};

struct CUevent_standin {
    bool has_time;
    Awaited recorded;
};

using EmulatedLaunch = int (*)(const char *, const unsigned[3], const unsigned[3], const void *, size_t);

struct CUmodule_standin {
    void *library;
    EmulatedLaunch launch;
    std::map<std::string, std::string *> functions;
};

struct Function {
    CUmodule_standin *module;
    std::string name;
};

struct CUctx_standin {
    int retained = 0;
};

enum Order { kLate, kEarly, kOthersFirst, kShuffled };

std::recursive_mutex guard;
std::map<uintptr_t, Block> blocks;           // by device address
std::map<uintptr_t, uintptr_t> pinned_hosts;  // host address to device address
uintptr_t next_address = 0;
size_t used_bytes = 0;
CUstream_standin default_stream{true, {}};
std::set<CUstream_standin *> streams;
std::set<CUevent_standin *> events;
std::set<CUmodule_standin *> modules;
std::set<Function *> functions;
CUctx_standin primary;
thread_local std::vector<CUcontext> current;
bool is_initialised = false;
CUresult sticky = CUDA_SUCCESS;
std::string complaint;
std::map<std::string, uint64_t> counters, launches;
std::map<std::string, int64_t> settings;
std::mt19937 dice;
double clock_ms = 0;

const std::map<std::string, int64_t> kDefaults = {
    {"devices", 1}, {"sm", 87}, {"is_integrated", 0}, {"memory_bytes", int64_t(8) << 30}, {"order", kLate}, {"seed", 0}};

int64_t setting(const std::string &name) {
    auto found = settings.find(name);
    return found == settings.end() ? kDefaults.at(name) : found->second;
}

CUresult refuse(CUresult code, const std::string &why) {
    complaint = why;
    return code;
}

// An error of work that runs later stays with the context, as on a GPU.
CUresult break_context(CUresult code, const std::string &why) {
    sticky = code;
    return refuse(code, why);
}

CUresult check_context() {
    if (!is_initialised) return refuse(CUDA_ERROR_NOT_INITIALIZED, "a call before cuInit");
    if (current.empty()) return refuse(CUDA_ERROR_INVALID_CONTEXT, "a call without a current context");
    if (primary.retained == 0) return refuse(CUDA_ERROR_CONTEXT_IS_DESTROYED, "a call after the context was released");
    return sticky;
}

#define ENTER()                                              \
    std::lock_guard<std::recursive_mutex> locked(guard);     \
    if (CUresult wrong = check_context(); wrong != CUDA_SUCCESS) return wrong

bool in_device_range(uintptr_t address) { return address >= kDeviceBase && address < kDeviceBase + kDeviceSpan; }

const Block *block_of(uintptr_t address, size_t size) {
    auto after = blocks.upper_bound(address);
    if (after == blocks.begin()) return nullptr;
    const auto &[base, block] = *std::prev(after);
    return address + size <= base + block.size ? &block : nullptr;
}

bool is_pinned_host(const void *pointer, size_t size) {
    auto after = pinned_hosts.upper_bound(reinterpret_cast<uintptr_t>(pointer));
    if (after == pinned_hosts.begin()) return false;
    const auto &[host, device] = *std::prev(after);
    return reinterpret_cast<uintptr_t>(pointer) + size <= host + blocks.at(device).size;
}

bool is_mapped_in_host(uintptr_t address) {
    unsigned char resident;
    return address >= kPage && address < (uintptr_t(1) << 47) && mincore(reinterpret_cast<void *>(address & ~(kPage - 1)), 1, &resident) == 0;
}

CUresult check_device(const char *what, CUdeviceptr address, size_t size) {
    if (block_of(address, size)) return CUDA_SUCCESS;
    char text[160];
    snprintf(text, sizeof text, "%s: %zu bytes at %#llx are no live device memory", what, size, static_cast<unsigned long long>(address));
    return refuse(CUDA_ERROR_INVALID_VALUE, text);
}

CUresult check_host(const char *what, const void *pointer) {
    if (in_device_range(reinterpret_cast<uintptr_t>(pointer)))
        return refuse(CUDA_ERROR_INVALID_VALUE, std::string(what) + ": a device address where a host pointer belongs");
    if (!is_mapped_in_host(reinterpret_cast<uintptr_t>(pointer)))
        return refuse(CUDA_ERROR_INVALID_VALUE, std::string(what) + ": the host has no memory there any more");
    return CUDA_SUCCESS;
}

CUstream_standin *stream_of(CUstream handle) {
    if (handle == nullptr) return &default_stream;
    auto *stream = reinterpret_cast<CUstream_standin *>(handle);
    return streams.count(stream) ? stream : nullptr;
}

std::vector<CUstream_standin *> all_streams() {
    std::vector<CUstream_standin *> all(streams.begin(), streams.end());
    all.push_back(&default_stream);
    return all;
}

bool can_step(const CUstream_standin *stream) {
    return !stream->queue.empty() && (!stream->queue.front().awaits || stream->queue.front().awaits->is_done);
}

void step(CUstream_standin *stream) {
    Operation operation = std::move(stream->queue.front());
    stream->queue.pop_front();
    if (operation.run && sticky == CUDA_SUCCESS) operation.run();
    if (operation.completes) {
        const double now = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
        clock_ms = std::max(clock_ms + 0.001, now);
        operation.completes->time_ms = clock_ms;
        operation.completes->is_done = true;
    }
}

bool run_others_once(CUstream_standin *wanted) {
    bool has_run = false;
    for (auto *stream : all_streams())
        for (; stream != wanted && can_step(stream); has_run = true) step(stream);
    return has_run;
}

using Goal = std::function<bool()>;

// No goal is reached by running more than what it needs, unless the order wants it.
void run_until(CUstream_standin *wanted, const Goal &is_reached) {
    while (!is_reached() && !wanted->queue.empty()) {
        const int64_t order = setting("order");
        if (order == kShuffled) {
            std::vector<CUstream_standin *> able;
            for (auto *stream : all_streams())
                if (can_step(stream)) able.push_back(stream);
            step(able[dice() % able.size()]);
            continue;
        }
        if (order == kOthersFirst) run_others_once(wanted);
        if (const Awaited awaited = wanted->queue.front().awaits; awaited && !awaited->is_done)
            run_until(awaited->stream, [&] { return awaited->is_done; });
        else
            step(wanted);
    }
}

bool is_recording() {
    for (auto *stream : all_streams())
        if (stream->recorded) return true;
    return false;
}

void drain(CUstream_standin *stream) {
    run_until(stream, [stream] { return stream->queue.empty(); });
}

void drain_all() {
    for (auto *stream : all_streams()) drain(stream);
}

void enqueue(CUstream_standin *stream, Operation operation) {
    if (stream->recorded) {
        stream->recorded->push_back(std::move(operation));
        return;
    }
    stream->queue.push_back(std::move(operation));
    if (setting("order") == kEarly)
        while (run_others_once(nullptr)) {
        }
    if (setting("order") == kShuffled)
        for (auto *any : all_streams())
            if (dice() % 4 == 0 && can_step(any)) step(any);
}

// The default stream waits for every stream that was not made non-blocking, and for no other.
void drain_default() {
    for (auto *stream : all_streams())
        if (stream->is_blocking) drain(stream);
}

void count_copy(const char *kind, size_t size) {
    counters[kind]++;
    counters[std::string(kind) + "_bytes"] += size;
}

CUresult run_copy(void *to, const void *from, size_t size, CUdeviceptr device, const char *what) {
    if (!block_of(device, size)) return break_context(CUDA_ERROR_ILLEGAL_ADDRESS, std::string(what) + ": the memory was freed before the copy ran");
    memcpy(to, from, size);
    return CUDA_SUCCESS;
}

// Of what a kernel is given, whatever looks like an address must be one of live device memory.
CUresult check_arguments(const std::string &kernel, const std::vector<char> &packed) {
    for (size_t at = 0; at + 8 <= packed.size(); at += 8) {
        uintptr_t word;
        memcpy(&word, packed.data() + at, 8);
        char text[160];
        snprintf(text, sizeof text, "%s, byte %zu of its arguments: %#lx is ", kernel.c_str(), at, static_cast<unsigned long>(word));
        if (in_device_range(word) && !block_of(word, 1)) return break_context(CUDA_ERROR_ILLEGAL_ADDRESS, text + std::string("no live device memory"));
        if (!in_device_range(word) && is_mapped_in_host(word)) return break_context(CUDA_ERROR_ILLEGAL_ADDRESS, text + std::string("a host pointer"));
    }
    return CUDA_SUCCESS;
}

CUresult give_memory(size_t size, bool is_pinned, CUdeviceptr *device, void **host) {
    if (size == 0) return refuse(CUDA_ERROR_INVALID_VALUE, "an allocation of 0 bytes");
    if (next_address == 0) {
        void *range = mmap(reinterpret_cast<void *>(kDeviceBase), kDeviceSpan, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (range == MAP_FAILED) return refuse(CUDA_ERROR_OUT_OF_MEMORY, "the address range is taken");
        next_address = kDeviceBase;
    }
    if (used_bytes + size > static_cast<size_t>(setting("memory_bytes"))) return refuse(CUDA_ERROR_OUT_OF_MEMORY, "the GPU's memory is full");
    const size_t length = (size + kPage - 1) / kPage * kPage;
    void *place = reinterpret_cast<void *>(next_address);
    *host = nullptr;
    if (is_pinned) {  // the same pages at two addresses: one for the host, one for the device
        const int file = memfd_create("pinned", 0);
        if (file < 0 || ftruncate(file, static_cast<off_t>(length)) != 0) return CUDA_ERROR_OUT_OF_MEMORY;
        *host = mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        mmap(place, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
        close(file);
    } else {
        mprotect(place, length, PROT_READ | PROT_WRITE);
    }
    memset(place, 0xFF, size);
    blocks[next_address] = {size, is_pinned, *host};
    if (is_pinned) pinned_hosts[reinterpret_cast<uintptr_t>(*host)] = next_address;
    *device = next_address;
    next_address += length + kPage;  // the page between stays out of reach
    used_bytes += size;
    return CUDA_SUCCESS;
}

void take_memory(uintptr_t device) {
    const Block block = blocks.at(device);
    const size_t length = (block.size + kPage - 1) / kPage * kPage;
    mmap(reinterpret_cast<void *>(device), length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (block.is_pinned) {
        munmap(block.host, length);
        pinned_hosts.erase(reinterpret_cast<uintptr_t>(block.host));
    }
    used_bytes -= block.size;
    blocks.erase(device);
}

uint64_t live(bool is_pinned) {
    return static_cast<uint64_t>(std::count_if(blocks.begin(), blocks.end(), [&](const auto &entry) { return entry.second.is_pinned == is_pinned; }));
}

}  // namespace

extern "C" {

// What tests ask and set.

uint64_t standin_counter(const char *name) {
    std::lock_guard<std::recursive_mutex> locked(guard);
    const std::map<std::string, uint64_t> now = {{"live_allocations", live(false)}, {"live_pinned", live(true)},
        {"live_streams", streams.size()}, {"live_events", events.size()}, {"live_modules", modules.size()},
        {"live_contexts", static_cast<uint64_t>(primary.retained)}, {"current_contexts", current.size()}};
    auto found = now.find(name);
    return found == now.end() ? counters[name] : found->second;
}

uint64_t standin_launches(const char *kernel) {
    std::lock_guard<std::recursive_mutex> locked(guard);
    return launches[kernel];
}

void standin_clear() {
    std::lock_guard<std::recursive_mutex> locked(guard);
    counters.clear();
    launches.clear();
    complaint.clear();
}

void standin_set(const char *name, int64_t value) {
    std::lock_guard<std::recursive_mutex> locked(guard);
    settings[name] = value;
    if (std::string(name) == "seed") dice.seed(static_cast<unsigned>(value));
    if (std::string(name) == "devices") is_initialised = false;
}

// Work of a test's own in a stream, in place of an engine's.
int standin_call(uint64_t stream, void (*work)()) {
    ENTER();
    enqueue(stream_of(reinterpret_cast<CUstream>(stream)), {[=] { return work(), CUDA_SUCCESS; }, nullptr, nullptr});
    return CUDA_SUCCESS;
}

const char *standin_complaint() { return complaint.c_str(); }

// Driver and device.

CUresult cuInit(unsigned) {
    std::lock_guard<std::recursive_mutex> locked(guard);
    if (setting("devices") < 1) return CUDA_ERROR_NO_DEVICE;
    is_initialised = true;
    return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int *version) { return *version = CUDA_VERSION, CUDA_SUCCESS; }

CUresult cuGetErrorString(CUresult code, const char **text) {
    static std::string said;
    said = "stand-in driver: error " + std::to_string(code) + (complaint.empty() ? "" : ": " + complaint);
    return *text = said.c_str(), CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) {
    if (!is_initialised) return CUDA_ERROR_NOT_INITIALIZED;
    return *count = static_cast<int>(setting("devices")), CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
    if (!is_initialised) return CUDA_ERROR_NOT_INITIALIZED;
    if (ordinal < 0 || ordinal >= setting("devices")) return CUDA_ERROR_INVALID_DEVICE;
    return *device = ordinal, CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char *name, int length, CUdevice) { return snprintf(name, static_cast<size_t>(length), "stand-in GPU"), CUDA_SUCCESS; }

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice) {
    *major = static_cast<int>(setting("sm") / 10), *minor = static_cast<int>(setting("sm") % 10);
    return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice) { return *bytes = static_cast<size_t>(setting("memory_bytes")), CUDA_SUCCESS; }

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device) {
    int major, minor;
    cuDeviceComputeCapability(&major, &minor, device);
    const std::map<int, int> known = {{CU_DEVICE_ATTRIBUTE_INTEGRATED, static_cast<int>(setting("is_integrated"))},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, major}, {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, minor},
        {CU_DEVICE_ATTRIBUTE_CAN_MAP_HOST_MEMORY, 1}, {CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 1}, {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 8}};
    auto found = known.find(attribute);
    if (found == known.end()) return refuse(CUDA_ERROR_NOT_SUPPORTED, "attribute " + std::to_string(attribute) + " is not in the stand-in");
    return *value = found->second, CUDA_SUCCESS;
}

// Contexts: the primary one.

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice) {
    std::lock_guard<std::recursive_mutex> locked(guard);
    if (!is_initialised) return CUDA_ERROR_NOT_INITIALIZED;
    primary.retained++;
    return *context = reinterpret_cast<CUcontext>(&primary), CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice) {
    std::lock_guard<std::recursive_mutex> locked(guard);
    if (primary.retained == 0) return refuse(CUDA_ERROR_INVALID_CONTEXT, "the primary context was released twice");
    if (--primary.retained > 0) return CUDA_SUCCESS;
    counters["leaked"] += blocks.size() + streams.size() + events.size() + modules.size();
    while (!blocks.empty()) take_memory(blocks.begin()->first);
    streams.clear(), events.clear(), modules.clear(), functions.clear();
    default_stream.queue.clear();
    sticky = CUDA_SUCCESS;
    return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent(CUcontext context) {
    if (context != reinterpret_cast<CUcontext>(&primary)) return CUDA_ERROR_INVALID_CONTEXT;
    current.push_back(context);
    return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *context) {
    if (current.empty()) return refuse(CUDA_ERROR_INVALID_CONTEXT, "no context to pop");
    *context = current.back();
    current.pop_back();
    return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) {
    ENTER();
    return *device = 0, CUDA_SUCCESS;
}

CUresult cuCtxSynchronize() {
    ENTER();
    if (is_recording()) return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, std::string(__func__) + " while a stream records");
    counters["synchronisations"]++;
    drain_all();
    return sticky;
}

// Memory.

CUresult cuMemAlloc(CUdeviceptr *device, size_t size) {
    ENTER();
    if (is_recording()) return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, std::string(__func__) + " while a stream records");
    counters["allocations"]++;
    void *host;
    return give_memory(size, false, device, &host);
}

CUresult cuMemFree(CUdeviceptr device) {
    ENTER();
    counters["frees"]++;
    drain_all();
    auto found = blocks.find(device);
    if (found == blocks.end() || found->second.is_pinned) return refuse(CUDA_ERROR_INVALID_VALUE, "cuMemFree: no live allocation begins there");
    take_memory(device);
    return CUDA_SUCCESS;
}

CUresult cuMemGetInfo(size_t *free, size_t *total) {
    ENTER();
    *total = static_cast<size_t>(setting("memory_bytes")), *free = *total - used_bytes;
    return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **host, size_t size, unsigned) {
    ENTER();
    if (is_recording()) return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, std::string(__func__) + " while a stream records");
    counters["pinned_allocations"]++;
    CUdeviceptr device;
    return give_memory(size, true, &device, host);
}

CUresult cuMemHostGetDevicePointer(CUdeviceptr *device, void *host, unsigned) {
    ENTER();
    auto found = pinned_hosts.find(reinterpret_cast<uintptr_t>(host));
    if (found == pinned_hosts.end()) return refuse(CUDA_ERROR_INVALID_VALUE, "cuMemHostGetDevicePointer: not pinned memory");
    return *device = found->second, CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *host) {
    ENTER();
    counters["pinned_frees"]++;
    drain_all();
    auto found = pinned_hosts.find(reinterpret_cast<uintptr_t>(host));
    if (found == pinned_hosts.end()) return refuse(CUDA_ERROR_INVALID_VALUE, "cuMemFreeHost: not pinned memory");
    take_memory(found->second);
    return CUDA_SUCCESS;
}

// Copies. Those of pageable memory are staged at once, as a driver does it, and counted: they are slow. Even the call that is said to
// wait, cuMemcpyHtoD, returns when the memory is staged: the rest is left in the default stream, which non-blocking streams do not wait for.

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t size, CUstream handle) {
    ENTER();
    CUstream_standin *stream = stream_of(handle);
    if (!stream) return refuse(CUDA_ERROR_INVALID_HANDLE, "an upload on a stream that is not alive");
    if (CUresult wrong = check_device("upload", to, size)) return wrong;
    if (CUresult wrong = check_host("upload", from)) return wrong;
    count_copy("uploads", size);
    auto *place = reinterpret_cast<char *>(to);
    if (is_pinned_host(from, size)) {
        enqueue(stream, {[=] { return run_copy(place, from, size, to, "upload"); }, nullptr, nullptr});
        return CUDA_SUCCESS;
    }
    counters["pageable_copies"]++;
    auto staged = std::make_shared<std::vector<char>>(static_cast<const char *>(from), static_cast<const char *>(from) + size);
    enqueue(stream, {[=] { return run_copy(place, staged->data(), size, to, "upload"); }, nullptr, nullptr});
    return CUDA_SUCCESS;
}

CUresult cuMemcpyDtoHAsync(void *to, CUdeviceptr from, size_t size, CUstream handle) {
    ENTER();
    CUstream_standin *stream = stream_of(handle);
    if (!stream) return refuse(CUDA_ERROR_INVALID_HANDLE, "a download on a stream that is not alive");
    if (CUresult wrong = check_device("download", from, size)) return wrong;
    if (CUresult wrong = check_host("download", to)) return wrong;
    count_copy("downloads", size);
    enqueue(stream, {[=] { return run_copy(to, reinterpret_cast<const void *>(from), size, from, "download"); }, nullptr, nullptr});
    if (!is_pinned_host(to, size)) {
        counters["pageable_copies"]++;
        drain(stream);
    }
    return sticky;
}

CUresult cuMemcpyDtoDAsync(CUdeviceptr to, CUdeviceptr from, size_t size, CUstream handle) {
    ENTER();
    CUstream_standin *stream = stream_of(handle);
    if (!stream) return refuse(CUDA_ERROR_INVALID_HANDLE, "a copy on a stream that is not alive");
    if (CUresult wrong = check_device("copy, to", to, size)) return wrong;
    if (CUresult wrong = check_device("copy, from", from, size)) return wrong;
    count_copy("device_copies", size);
    enqueue(stream, {[=] {
        if (!block_of(from, size)) return break_context(CUDA_ERROR_ILLEGAL_ADDRESS, "copy: the memory was freed before it ran");
        return run_copy(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), size, to, "copy");
    }, nullptr, nullptr});
    return CUDA_SUCCESS;
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t size) {
    ENTER();
    if (is_recording()) return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, std::string(__func__) + " while a stream records");
    if (CUresult wrong = check_device("upload", to, size)) return wrong;
    if (CUresult wrong = check_host("upload", from)) return wrong;
    count_copy("uploads", size);
    counters["synchronisations"]++;
    drain_default();
    if (is_pinned_host(from, size)) return sticky == CUDA_SUCCESS ? run_copy(reinterpret_cast<void *>(to), from, size, to, "upload") : sticky;
    auto staged = std::make_shared<std::vector<char>>(static_cast<const char *>(from), static_cast<const char *>(from) + size);
    enqueue(&default_stream, {[=] { return run_copy(reinterpret_cast<void *>(to), staged->data(), size, to, "upload"); }, nullptr, nullptr});
    return sticky;
}

CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t size) {
    ENTER();
    if (is_recording()) return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, std::string(__func__) + " while a stream records");
    if (CUresult wrong = check_device("download", from, size)) return wrong;
    if (CUresult wrong = check_host("download", to)) return wrong;
    count_copy("downloads", size);
    counters["synchronisations"]++;
    drain_default();
    memcpy(to, reinterpret_cast<const void *>(from), size);
    return sticky;
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream handle) {
    ENTER();
    CUstream_standin *stream = stream_of(handle);
    if (!stream) return refuse(CUDA_ERROR_INVALID_HANDLE, "a memset on a stream that is not alive");
    if (CUresult wrong = check_device("memset", to, 4 * count)) return wrong;
    enqueue(stream, {[=] {
        if (!block_of(to, 4 * count)) return break_context(CUDA_ERROR_ILLEGAL_ADDRESS, "memset: the memory was freed before it ran");
        std::fill_n(reinterpret_cast<unsigned *>(to), count, value);
        return CUDA_SUCCESS;
    }, nullptr, nullptr});
    return CUDA_SUCCESS;
}

// Streams and events.

CUresult cuStreamCreate(CUstream *handle, unsigned flags) {
    ENTER();
    auto *stream = new CUstream_standin{(flags & CU_STREAM_NON_BLOCKING) == 0, {}};
    streams.insert(stream);
    return *handle = reinterpret_cast<CUstream>(stream), CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream handle) {
    ENTER();
    auto *stream = stream_of(handle);
    if (!stream || stream == &default_stream) return CUDA_ERROR_INVALID_HANDLE;
    drain(stream);
    streams.erase(stream);  // its memory stays: completions may still name it
    return CUDA_SUCCESS;
}

CUresult cuStreamSynchronize(CUstream handle) {
    ENTER();
    if (is_recording()) return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, std::string(__func__) + " while a stream records");
    auto *stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    counters["synchronisations"]++;
    drain(stream);
    return sticky;
}

CUresult cuStreamQuery(CUstream handle) {
    ENTER();
    auto *stream = stream_of(handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    if (can_step(stream)) step(stream);
    return stream->queue.empty() ? sticky : CUDA_ERROR_NOT_READY;
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned) {
    ENTER();
    auto *stream = stream_of(handle);
    auto *event = reinterpret_cast<CUevent_standin *>(event_handle);
    if (!stream || !events.count(event)) return refuse(CUDA_ERROR_INVALID_HANDLE, "a wait of, or for, something that is not alive");
    counters["event_waits"]++;
    if (event->recorded) enqueue(stream, {nullptr, event->recorded, nullptr});
    return CUDA_SUCCESS;
}

// Recorded work: what a stream is given between begin and end runs at every launch of the graph. Nothing may wait meanwhile.

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode) {
    ENTER();
    auto *stream = stream_of(handle);
    if (!stream || stream == &default_stream || stream->recorded) return refuse(CUDA_ERROR_ILLEGAL_STATE, "a stream that cannot record");
    stream->recorded = new std::vector<Operation>;
    return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph) {
    ENTER();
    auto *stream = stream_of(handle);
    if (!stream || !stream->recorded) return refuse(CUDA_ERROR_ILLEGAL_STATE, "a stream that does not record");
    *graph = reinterpret_cast<CUgraph>(std::exchange(stream->recorded, nullptr));
    return CUDA_SUCCESS;
}

CUresult cuGraphInstantiate(CUgraphExec *ready, CUgraph graph, unsigned long long) {
    ENTER();
    *ready = reinterpret_cast<CUgraphExec>(new std::vector<Operation>(*reinterpret_cast<std::vector<Operation> *>(graph)));
    return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec ready, CUstream handle) {
    ENTER();
    auto *stream = stream_of(handle);
    if (!stream) return refuse(CUDA_ERROR_INVALID_HANDLE, "a graph on a stream that is not alive");
    for (const Operation &operation : *reinterpret_cast<std::vector<Operation> *>(ready)) enqueue(stream, operation);
    return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec ready) { return delete reinterpret_cast<std::vector<Operation> *>(ready), CUDA_SUCCESS; }

CUresult cuGraphDestroy(CUgraph graph) { return delete reinterpret_cast<std::vector<Operation> *>(graph), CUDA_SUCCESS; }

CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *data) {
    ENTER();
    CUstream_standin *stream = stream_of(handle);
    if (!stream) return refuse(CUDA_ERROR_INVALID_HANDLE, "a host function on a stream that is not alive");
    enqueue(stream, {[=] { return function(data), CUDA_SUCCESS; }, nullptr, nullptr});
    return CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *handle, unsigned flags) {
    ENTER();
    counters["event_creations"]++;
    auto *event = new CUevent_standin{(flags & CU_EVENT_DISABLE_TIMING) == 0, nullptr};
    events.insert(event);
    return *handle = reinterpret_cast<CUevent>(event), CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent handle) {
    ENTER();
    auto *event = reinterpret_cast<CUevent_standin *>(handle);
    if (!events.erase(event)) return CUDA_ERROR_INVALID_HANDLE;
    delete event;
    return CUDA_SUCCESS;
}

CUresult cuEventRecord(CUevent handle, CUstream stream_handle) {
    ENTER();
    auto *stream = stream_of(stream_handle);
    auto *event = reinterpret_cast<CUevent_standin *>(handle);
    if (!stream || !events.count(event)) return refuse(CUDA_ERROR_INVALID_HANDLE, "a record of, or on, something that is not alive");
    event->recorded = std::make_shared<Completion>(Completion{stream});
    enqueue(stream, {nullptr, nullptr, event->recorded});
    return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent handle) {
    ENTER();
    auto *event = reinterpret_cast<CUevent_standin *>(handle);
    if (!events.count(event)) return CUDA_ERROR_INVALID_HANDLE;
    if (!event->recorded || event->recorded->is_done) return sticky;
    return CUDA_ERROR_NOT_READY;
}

CUresult cuEventSynchronize(CUevent handle) {
    ENTER();
    if (is_recording()) return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, std::string(__func__) + " while a stream records");
    auto *event = reinterpret_cast<CUevent_standin *>(handle);
    if (!events.count(event)) return CUDA_ERROR_INVALID_HANDLE;
    counters["synchronisations"]++;
    if (const Awaited recorded = event->recorded) run_until(recorded->stream, [&] { return recorded->is_done; });
    return sticky;
}

CUresult cuEventElapsedTime(float *ms, CUevent first_handle, CUevent second_handle) {
    ENTER();
    auto *first = reinterpret_cast<CUevent_standin *>(first_handle), *second = reinterpret_cast<CUevent_standin *>(second_handle);
    if (!events.count(first) || !events.count(second) || !first->has_time || !second->has_time || !first->recorded || !second->recorded)
        return refuse(CUDA_ERROR_INVALID_HANDLE, "the time between events that have none");
    if (!first->recorded->is_done || !second->recorded->is_done) return CUDA_ERROR_NOT_READY;
    return *ms = static_cast<float>(second->recorded->time_ms - first->recorded->time_ms), CUDA_SUCCESS;
}

// Modules and launches.

CUresult cuModuleLoadDataEx(CUmodule *handle, const void *image, unsigned count, CUjit_option *options, void **values) {
    for (unsigned i = 0; i < count; i++)
        if (options[i] == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES || options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES) values[i] = nullptr;
    ENTER();
    struct {
        char magic[8];
        uint32_t sm;
        uint32_t size;
    } header;
    memcpy(&header, image, sizeof header);
    if (memcmp(header.magic, "STANDIN1", 8) != 0) return refuse(CUDA_ERROR_INVALID_IMAGE, "not what the stand-in's nvcc makes");
    if (header.sm != setting("sm")) return refuse(CUDA_ERROR_NO_BINARY_FOR_GPU, "compiled for sm_" + std::to_string(header.sm));
    const int file = memfd_create("cubin", 0);
    const char *content = static_cast<const char *>(image) + sizeof header;
    for (size_t at = 0; at < header.size;) {
        const ssize_t written = write(file, content + at, header.size - at);
        if (written <= 0) return refuse(CUDA_ERROR_OUT_OF_MEMORY, "no place for the library");
        at += static_cast<size_t>(written);
    }
    void *library = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL);
    const std::string reason = library ? "" : dlerror();
    close(file);
    auto launch = library ? reinterpret_cast<EmulatedLaunch>(dlsym(library, "emulated_launch")) : nullptr;
    if (!launch) return refuse(CUDA_ERROR_INVALID_IMAGE, "not a library with emulated_launch: " + reason);
    auto *module = new CUmodule_standin{library, launch, {}};
    modules.insert(module);
    return *handle = reinterpret_cast<CUmodule>(module), CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule handle) {
    ENTER();
    auto *module = reinterpret_cast<CUmodule_standin *>(handle);
    if (!modules.erase(module)) return CUDA_ERROR_INVALID_HANDLE;
    drain_all();
    for (auto it = functions.begin(); it != functions.end();) {
        if ((*it)->module == module) delete *it, it = functions.erase(it);
        else ++it;
    }
    dlclose(module->library);
    delete module;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *handle, CUmodule module_handle, const char *name) {
    ENTER();
    auto *module = reinterpret_cast<CUmodule_standin *>(module_handle);
    if (!modules.count(module)) return CUDA_ERROR_INVALID_HANDLE;
    using HasKernel = int (*)(const char *);
    auto has_kernel = reinterpret_cast<HasKernel>(dlsym(module->library, "emulated_has"));
    if (!has_kernel || !has_kernel(name)) return refuse(CUDA_ERROR_NOT_FOUND, std::string("no kernel ") + name);
    auto *function = new Function{module, name};
    functions.insert(function);
    return *handle = reinterpret_cast<CUfunction>(function), CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared_bytes,
                        CUstream stream_handle, void **parameters, void **extra) {
    ENTER();
    auto *function = reinterpret_cast<Function *>(handle);
    CUstream_standin *stream = stream_of(stream_handle);
    if (!functions.count(function) || !stream) return refuse(CUDA_ERROR_INVALID_HANDLE, "a launch of, or on, something that is not alive");
    const uint64_t threads = uint64_t(bx) * by * bz;
    if (threads == 0 || threads > 1024 || bz > 64 || !gx || !gy || !gz || gx > 0x7FFFFFFF || gy > 65535 || gz > 65535 || shared_bytes || parameters)
        return refuse(CUDA_ERROR_INVALID_VALUE, function->name + ": a grid, block or way of passing arguments that does not work");
    const char *buffer = nullptr;
    size_t size = 0;
    for (void **at = extra; at && *at != CU_LAUNCH_PARAM_END; at += 2) {
        if (*at == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = static_cast<const char *>(at[1]);
        if (*at == CU_LAUNCH_PARAM_BUFFER_SIZE) size = *static_cast<size_t *>(at[1]);
    }
    if (!buffer || size > 4096) return refuse(CUDA_ERROR_INVALID_VALUE, function->name + ": no arguments, or too many");
    counters["launches"]++;
    launches[function->name]++;
    std::vector<char> packed(buffer, buffer + size);
    auto reason = reinterpret_cast<const char *(*)()>(dlsym(function->module->library, "emulated_error"));
    enqueue(stream, {[=, name = function->name, launch = function->module->launch] {
        if (CUresult wrong = check_arguments(name, packed)) return wrong;
        const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
        const int failed = launch(name.c_str(), grid, block, packed.data(), packed.size());
        return failed ? break_context(CUDA_ERROR_LAUNCH_FAILED, reason()) : CUDA_SUCCESS;
    }, nullptr, nullptr});
    return CUDA_SUCCESS;
}

}  // extern "C"

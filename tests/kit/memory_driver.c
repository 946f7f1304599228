/* NVIDIA's driver as far as export/engine/device_memory.py calls it, over the host's memory: it checks how the calls are made, not what a GPU does. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int CUdevice;
typedef void *CUcontext;
typedef unsigned long long CUdeviceptr;

static int alive = 0, retained = 0;
static CUcontext current = 0;

int cuInit(unsigned flags) { return flags != 0; }
int cuDeviceGet(CUdevice *device, int ordinal) { *device = 7; return ordinal != 0; }
int cuDeviceGetName(char *name, int length, CUdevice device) { strncpy(name, "Orin (stand-in)", length); return device != 7; }
int cuDeviceGetAttribute(int *value, int attribute, CUdevice device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : -1;
    return device != 7;
}
int cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) { *context = &retained; retained++; return device != 7; }
int cuDevicePrimaryCtxRelease_v2(CUdevice device) { retained--; return device != 7; }
int cuCtxSetCurrent(CUcontext context) { current = context; return context != &retained; }
int cuCtxSynchronize(void) { return current == 0; }
int cuMemAlloc_v2(CUdeviceptr *pointer, size_t size) {
    if (size > ((size_t)1 << 40)) return 2;
    *pointer = (CUdeviceptr)(uintptr_t)aligned_alloc(256, (size + 255) / 256 * 256);
    alive++;
    return 0;
}
int cuMemFree_v2(CUdeviceptr pointer) { free((void *)(uintptr_t)pointer); alive--; return 0; }
int cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t size) { memcpy((void *)(uintptr_t)to, from, size); return 0; }
int cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t size) { memcpy(to, (void *)(uintptr_t)from, size); return 0; }
int cuGetErrorString(int code, const char **text) { *text = code == 2 ? "out of memory" : "other"; return 0; }
int stand_in_alive(void) { return alive; }
int stand_in_retained(void) { return retained; }

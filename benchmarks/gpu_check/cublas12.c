/* libcublas.so.12 for faiss-gpu, on a machine that has only cuBLAS 13: the eight functions that
   faiss calls, whose signatures are the same in both, are handed on. CUBLAS names the library. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

static void *find(const char *name) {
    static void *library;
    if (!library) library = dlopen(CUBLAS, RTLD_NOW | RTLD_LOCAL);
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) {
        fprintf(stderr, "cublas12: %s: %s\n", name, dlerror());
        abort();
    }
    return found;
}

/* Jumps to the function of the same name with all arguments where they are (x86-64). */
#define FORWARD(name)                                              \
    static void *name##_found;                                     \
    __attribute__((constructor)) static void name##_find(void) {   \
        name##_found = find(#name);                                \
    }                                                              \
    __attribute__((naked)) void name(void) {                       \
        __asm__ volatile("jmp *%0" : : "m"(name##_found));         \
    }

FORWARD(cublasCreate_v2)
FORWARD(cublasDestroy_v2)
FORWARD(cublasSetStream_v2)
FORWARD(cublasGetMathMode)
FORWARD(cublasSetMathMode)
FORWARD(cublasSgemmEx)
FORWARD(cublasGemmEx)
FORWARD(cublasGemmStridedBatchedEx)

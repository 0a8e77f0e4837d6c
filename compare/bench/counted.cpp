// counted.c in C++, for std::shared_ptr and Boost's intrusive_ptr.

#define _Noreturn [[noreturn]]

#include "counted.c"

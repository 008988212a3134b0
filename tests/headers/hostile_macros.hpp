// SPDX-License-Identifier: Apache-2.0
// Names that widespread headers define as macros; a public header that uses one of them breaks its users' builds.
// min and max are not here: libstdc++ undefines them.
#pragma once

#define SARA_TAKEN(header) this name is a macro in header

// complex.h
#define I SARA_TAKEN(complex.h)
// termios.h
#define B0 SARA_TAKEN(termios.h)
// sys/sysmacros.h
#define major SARA_TAKEN(sysmacros.h)
#define minor SARA_TAKEN(sysmacros.h)
// windows.h
#define CONST SARA_TAKEN(windows.h)
#define DELETE SARA_TAKEN(windows.h)
#define ERROR SARA_TAKEN(windows.h)
#define FALSE SARA_TAKEN(windows.h)
#define IN SARA_TAKEN(windows.h)
#define OPAQUE SARA_TAKEN(windows.h)
#define OUT SARA_TAKEN(windows.h)
#define TRUE SARA_TAKEN(windows.h)
#define far SARA_TAKEN(windows.h)
#define interface SARA_TAKEN(windows.h)
#define near SARA_TAKEN(windows.h)
#define small SARA_TAKEN(windows.h)
// X11/Xlib.h
#define Bool SARA_TAKEN(Xlib.h)
#define None SARA_TAKEN(Xlib.h)
#define Status SARA_TAKEN(Xlib.h)

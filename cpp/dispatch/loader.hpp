#pragma once

// Shared objects at run time: where this one is, and functions of another.

#include <filesystem>
#include <stdexcept>
#include <string>

#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace ufm_fast {

using PathText = std::filesystem::path::string_type;

#ifdef _WIN32

/// The folder of the shared object that has this address, with the separator at its end.
inline PathText folder_of(const void* address) {
  HMODULE module = nullptr;
  constexpr DWORD flags = GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT;
  if (!GetModuleHandleExW(flags, static_cast<LPCWSTR>(address), &module)) return {};
  PathText path(1 << 15, L'\0');
  path.resize(GetModuleFileNameW(module, path.data(), static_cast<DWORD>(path.size())));
  return path.substr(0, path.find_last_of(L"\\/") + 1);
}

/// The function of this name in a shared object, which stays loaded; an std::runtime_error where there is none.
inline void* function_in(const PathText& folder, const std::string& file, const char* name) {
  const HMODULE module = LoadLibraryW((folder + PathText(file.begin(), file.end())).c_str());
  if (module == nullptr) throw std::runtime_error(file + ": error " + std::to_string(GetLastError()));
  const FARPROC function = GetProcAddress(module, name);
  if (function == nullptr) throw std::runtime_error(file + " lacks " + name);
  return reinterpret_cast<void*>(function);
}

#else

/// The folder of the shared object that has this address, with the separator at its end.
inline PathText folder_of(const void* address) {
  Dl_info info;
  if (dladdr(address, &info) == 0) return {};
  const PathText path = info.dli_fname;
  return path.substr(0, path.find_last_of('/') + 1);
}

/// The function of this name in a shared object, which stays loaded; an std::runtime_error where there is none.
inline void* function_in(const PathText& folder, const std::string& file, const char* name) {
  void* const object = dlopen((folder + file).c_str(), RTLD_NOW | RTLD_LOCAL);
  void* const function = object == nullptr ? nullptr : dlsym(object, name);
  if (function == nullptr) throw std::runtime_error(dlerror());
  return function;
}

#endif

}  // namespace ufm_fast

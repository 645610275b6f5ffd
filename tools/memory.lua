-- Checks that the private memory of the engine goes through its allocator (engine/base/memory.h).
--
--   lua5.4 tools/memory.lua
--
--   malloc and its kind    only where the table below allows them
--   mpe_buf *              a public call that has an engine and fills a buffer adopts it
--
-- Prints each offence as `file: what` and ends with status 1 if there is one.

local ALLOWED = {
  ["engine/base/memory.c"] = true,
  ["engine/base/memory.h"] = true,
  ["engine/proc/engine.c"] = "aligned_alloc", -- the engine itself, on pages of its own
  ["engine/proc/server.c"] = "malloc",        -- an environment that becomes the process's
  ["engine/loop/offload.c"] = true,           -- the work of threads, which may outlive the engine
  ["engine/loop/names.c"] = true,
  ["engine/proc/view.c"] = true,              -- readers, which have no engine
  ["engine/proc/tracer.c"] = true,            -- the same
  ["engine/os/passing.c"] = "realloc",        -- descriptors that the process keeps for others
}
local CALLS = { "malloc", "calloc", "realloc", "reallocarray", "aligned_alloc", "free", "strdup", "strndup" }

local offences = 0

local function complain(file, format, ...)
  offences = offences + 1
  io.stderr:write(file, ": ", format:format(...), "\n")
end

local function text_of(file)
  local f = assert(io.open(file))
  local text = f:read "a"
  f:close()
  return (text:gsub("/%*.-%*/", ""))
end

-- The sources of the library, without its tests and hosts.
local sources = {}
local pipe = assert(io.popen "find engine -name '*.[ch]' | sort")
for file in pipe:lines() do
  local folder = file:match "^engine/(%w+)/"
  if not file:find "_test%.c$" and not ({ testing = 1, examples = 1, hosts = 1, include = 1 })[folder] then
    sources[file] = text_of(file)
  end
end
pipe:close()

for file, text in pairs(sources) do
  for _, call in ipairs(CALLS) do
    if text:find("%f[%w_]" .. call .. "%s*%(") and ALLOWED[file] ~= true and ALLOWED[file] ~= call then
      complain(file, "%s: memory is of the engine's allocator, mpe__new and its kind", call)
    end
  end
end

-- The file that defines a function, and its text from there to the closing brace.
local function definition(name)
  for file, text in pairs(sources) do
    local body = text:match("\n" .. name .. "(%b()%s*%b{})")
    if body then return file, body end
  end
end

for _, header in ipairs { "engine/include/mpengine.h", "engine/include/mpengine_core.h" } do
  for name, arguments in text_of(header):gmatch "MPE_API[^;(]-([%w_]+)(%b());" do
    if arguments:find "mpe_engine %*e" and arguments:find "[^t] mpe_buf %*" then
      local file, body = definition(name)
      if not body or not body:find "mpe__buf_adopt%(" then
        complain(file or header, "%s fills a buffer and does not adopt it", name)
      end
    end
  end
end

os.exit(offences == 0)

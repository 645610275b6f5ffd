--- Start methods: which one is used, and the start-up code of a child in a new program.
local core = require "mpengine.core"
local check = require "mpengine.check"

local context = {}

local METHODS = { "fork", "spawn", "forkserver" }
local STOCK_LUA = "lua" .. _VERSION:match "[%d.]+"

local default -- the start method in force
local scope   -- the one that takes precedence while a pool of some context is made
local chosen  -- the executable of set_executable

local function check_method(call, name, level)
    for _, known in ipairs(METHODS) do
        if known == name then return name end
    end
    error(("%s: unknown start method '%s' (%s expected)"):format(call, tostring(name), table.concat(METHODS, ", ")),
        level + 1)
end

--- The ways to start a process.
---@return string[]
function context.get_all_start_methods()
    return { table.unpack(METHODS) }
end

--- The start method that is used by default.
---@return "fork"|"spawn"|"forkserver"
function context.get_start_method()
    return scope or default
end

---@param name "fork"|"spawn"|"forkserver"
function context.set_start_method(name)
    default = check_method("set_start_method", name, 2)
end

--- For a child: sets the method of its parent.
function context.set_default(name)
    default = name
end

function context.check_method(call, name)
    return check_method(call, name, 3)
end

local Restore = { __close = function(self) scope = self.scope end }

--- Calls f while a method is in force.
function context.with(name, f, ...)
    local _ <close> = setmetatable({ scope = scope }, Restore)
    scope = name
    return f(...)
end

--- The method set by a context, or nil.
function context.scoped()
    return scope
end

-- ---- the program that a child is ----

--- The program to start for spawn and forkserver: one that has the command's or lua's options -E and -e.
---@param path string
function context.set_executable(path)
    if type(path) ~= "string" then
        check.fail("set_executable", 1, "string", path)
    end
    chosen = path
end

local function in_path(name)
    for dir in (os.getenv("PATH") or "/usr/bin:/bin"):gmatch("[^:]+") do
        local file = io.open(dir .. "/" .. name)
        if file then
            file:close()
            return dir .. "/" .. name
        end
    end
end

--- The path of that program; inherited is the one used by the parent of this process.
function context.executable(call, inherited)
    local path = chosen or core.variable "EXECUTABLE" or inherited
    if path then return path end
    if not core.is_host() then return core.own_executable() end
    path = in_path("mpengine") or in_path(STOCK_LUA)
    if path then return path end
    error(("%s: no program to start for a child: neither mpengine nor %s is in PATH (mp.set_executable)"):format(
      call, STOCK_LUA), 0)
end

--- The code that this program runs. The core comes first, since it loads the other modules.
function context.boot_code()
    return ("package.path, package.cpath = %q, %q require 'mpengine.core' require('mpengine.child')()"):format(
        package.path, package.cpath)
end

--- The global arg, when it has the form that lua gives it.
function context.plain_arg()
    local arg, copy = _G.arg, {}
    if type(arg) ~= "table" or getmetatable(arg) then return nil end
    for k, v in pairs(arg) do
        if math.type(k) == "integer" and type(v) == "string" then copy[k] = v end
    end
    return copy
end

-- For SIGQUIT: what writes the dump of a program of stock Lua.
if core.is_program() then
    core.reader_code(([[package.path, package.cpath = %q, %q
        os.exit(require("mpengine.look.command").run("dump", { "PID       " }))]]):format(package.path, package.cpath))
end

default = core.variable "START_METHOD" or core.is_host() and "forkserver" or "fork"

return context

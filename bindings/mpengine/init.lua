--- mpengine: processes, shared objects, pools and coroutines for Lua.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local context = require "mpengine.context"
local process = require "mpengine.process"
local sync = require "mpengine.sync"

local mp = {
    _VERSION = "mpengine " .. core.version,
    Process = process.Process,
    current_process = process.current_process,
    parent_process = process.parent_process,
    active_children = process.active_children,
    cpu_count = core.cpu_count,
    set_start_method = context.set_start_method,
    get_start_method = context.get_start_method,
    get_all_start_methods = context.get_all_start_methods,
    set_executable = context.set_executable,
    Queue = core.new_queue,
    JoinableQueue = core.new_joinable_queue,
    SimpleQueue = core.new_simple_queue,
    Pipe = core.new_pipe,
    Array = core.new_array,
    RawArray = core.new_raw_array,
    Value = core.new_value,
    RawValue = core.new_raw_value,
    Dict = core.new_dict,
    List = core.new_list,
    Lock = core.new_lock,
    RLock = core.new_rlock,
    Semaphore = core.new_semaphore,
    BoundedSemaphore = core.new_bounded_semaphore,
    Event = core.new_event,
    Condition = core.new_condition,
    Barrier = sync.Barrier,
    sleep = core.sleep,
    register = core.register,
    codec = core.codec,
    now = core.now,
}

-- Messages about bad arguments find a function's name by its place in a loaded module. The public
-- name must be the only one.
for name in pairs(core) do
    if name:find("^new_") then core[name] = nil end
end

debug.getregistry()["mpengine.deadlock"] = function() return require("mpengine.deadlock").describe() end

local submodules = {
    co = "mpengine.co",
    http = "mpengine.http",
    monkey = "mpengine.monkey",
    subprocess = "mpengine.subprocess",
}

-- Functions of modules that are loaded at their first use.
local lazy = {
    Pool = "mpengine.pool",
    Manager = "mpengine.manager",
    wait = "mpengine.wait",
    stats = "mpengine.stats",
    SharedMemory = "mpengine.shared_memory",
    get_context = "mpengine.contexts",
    signal = "mpengine.signal",
    log_to_stderr = "mpengine.log",
    get_logger = "mpengine.log",
}

-- A luv that was loaded before this one has a loop of its own.
if package.loaded.luv then require("mpengine.luv").bridge(package.loaded.luv) end

core.modules.mpengine = mp -- another loader than the library's may have loaded it

return setmetatable(mp, {
    __index = function(self, key)
        local module = submodules[key]
        local value
        if module then
            value = require(module)
        elseif lazy[key] then
            value = require(lazy[key])[key]
        end
        rawset(self, key, value)
        return value
    end,
})

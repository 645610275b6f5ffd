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
    ready = process.ready,
    active_children = process.active_children,
    cpu_count = core.cpu_count,
    set_start_method = context.set_start_method,
    get_start_method = context.get_start_method,
    get_all_start_methods = context.get_all_start_methods,
    set_executable = context.set_executable,
    name = core.name,
    find = core.find,
    sleep = core.sleep,
    register = core.register,
    codec = core.codec,
    now = core.now,
    Struct = core.Struct,
}

for name, make in pairs(core.makers) do mp[name] = make end
mp.Barrier = sync.Barrier -- which makes one with core.makers.Barrier

local submodules = {
    co = "mpengine.co",
    http = "mpengine.http",
    monkey = "mpengine.monkey",
    server = "mpengine.server",
    subprocess = "mpengine.subprocess",
}

-- Functions of modules that are loaded at their first use.
local lazy = {
    Pool = "mpengine.pool",
    Manager = "mpengine.manager",
    Supervisor = "mpengine.supervisor",
    wait = "mpengine.wait",
    stats = "mpengine.stats",
    dump = "mpengine.stats",
    metrics = "mpengine.stats",
    notify = "mpengine.notify",
    SharedMemory = "mpengine.shared_memory",
    get_context = "mpengine.contexts",
    signal = "mpengine.signal",
    Listener = "mpengine.link",
    Client = "mpengine.link",
    log_to_stderr = "mpengine.log",
    get_logger = "mpengine.log",
    progress = "mpengine.progress",
    retry = "mpengine.retry",
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

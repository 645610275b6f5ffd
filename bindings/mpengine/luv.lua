--- require "luv": libuv's own API on the engine's loop, which runs whenever any task waits.
--- Functions that concern the whole loop now concern luv's part of it, and uv.run waits like any
--- other call.
local core = require "mpengine.core"
local check = require "mpengine.check"
require "mpengine.co" -- which tells of errors in callbacks

local luv = {}

-- Modules of luv that are bridged, or share the loop -> true. This module may be loaded again;
-- those must not be bridged twice.
local known = debug.getregistry()["mpengine.luv_modules"] or setmetatable({}, { __mode = "k" })
debug.getregistry()["mpengine.luv_modules"] = known

-- ---- replaced functions ----------------------------------------------------------------------

local DEFAULT <const>, ONCE <const>, NOWAIT <const> = 0, 1, 2
local run_modes = { default = DEFAULT, once = ONCE, nowait = NOWAIT }

local function mode_of(mode)
    if mode == nil then return DEFAULT end
    if type(mode) ~= "string" and type(mode) ~= "number" then
        check.fail("run", 1, "string", mode)
    end
    return run_modes[mode] or check.wrong("run", 1, ("invalid option '%s'"):format(mode))
end

--- uv.run([mode]) -> whether there is still something to wait for
local function run(mode)
    mode = mode_of(mode)
    if mode == NOWAIT and core.luv_inside() then core.sleep(0) end -- the turn this is in comes to its end
    do
        local call <close> = core.luv_enter(mode)
        if call and mode == NOWAIT then core.luv_turn() end
        if call and mode ~= NOWAIT then core.luv_wait(call) end
    end
    if mode == NOWAIT then core.sleep(0) end
    return core.luv_alive()
end

local function walk(callback)
    if type(callback) ~= "function" then
        check.fail("walk", 1, "function", callback)
    end
    for _, handle in ipairs(core.luv_handles()) do callback(handle) end
end

--- The loop is not luv's to close: only returns whether it could be closed.
local function loop_close()
    if core.luv_alive() or #core.luv_handles() > 0 then
        return nil, "EBUSY: resource busy or locked", "EBUSY"
    end
    return 0
end

local function adapt(uv)
    known[uv] = true
    uv.run, uv.stop, uv.walk = run, core.luv_stop, walk
    uv.loop_alive, uv.loop_mode, uv.loop_close = core.luv_alive, core.luv_mode, loop_close
    return uv
end

-- ---- luv with a loop of its own --------------------------------------------------------------

--- Makes uv.run wait for luv's loop like any other call: its callbacks run while a task is in
--- uv.run.
---@param uv table the module
---@return table uv
function luv.bridge(uv)
    if known[uv] then return uv end
    known[uv] = true
    local run_once, stop_own = uv.run, uv.stop
    local stops, seen = 0, 0 -- stops that have already ended a run
    function uv.stop()
        stops = stops + 1
        stop_own()
    end
    local modes = {} -- modes of the uv.run calls in progress
    local leaving = setmetatable({}, { __close = function() table.remove(modes) seen = stops end })
    function uv.loop_mode() return modes[#modes] end
    function uv.run(mode)
        modes[#modes + 1] = mode or "default"
        local _ <close> = leaving
        local more = run_once "nowait"
        while mode ~= "nowait" and more and stops == seen do
            local ms = uv.backend_timeout()
            core.poll({ uv.backend_fd() }, {}, ms and ms >= 0 and ms / 1000 or nil)
            more = run_once "nowait"
            if mode == "once" then break end
        end
        if mode == "nowait" then core.sleep(0) end
        return more
    end
    return uv
end

-- ---- loading ---------------------------------------------------------------------------------

--- The loader of luv, for package.searchers: nil when it is not installed.
---@return function?
---@return string?
function luv.loader()
    local path = package.searchpath("luv", package.cpath)
    if not path then return nil end
    return function()
        local uv = core.luv_open(path)
        if uv then return adapt(uv) end
        local open = assert(package.loadlib(path, "luaopen_luv"))
        return luv.bridge(open "luv")
    end, path
end

return luv

--- require "luv": libuv's own API on the engine's loop. Its callbacks are tasks; uv.run waits like any
--- other call, and what else concerned the whole loop now concerns luv's part of it.
local core = require "mpengine.core"
local co = require "mpengine.co"

local luv = {}

local runs = core.waitlist() -- tasks in uv.run: woken whenever there may be nothing left to wait for
local stopped = 0            -- calls of uv.stop so far
local called = 0             -- callbacks so far
local due = 0                -- callbacks that have not begun; their handle may be idle by now

-- ---- what is alive ---------------------------------------------------------------------------

local metas = {} -- of luv's handles -> true
local request   -- that of its requests

local function find_metas()
    for name, meta in pairs(debug.getregistry()) do
        if type(name) == "string" and type(meta) == "table" and name:find "^uv_%l" then
            if name == "uv_req" then request = meta else metas[meta] = true end
        end
    end
end

-- Of the parent of this process: they are never closed, since that would disturb the new loop.
local inherited = {} -- handle or request -> true

--- luv's handles that are not closed, and whether a request is under way: luv keeps both in the registry.
local function everything()
    local handles, has_request = {}, false
    for key, value in pairs(debug.getregistry()) do
        if math.type(key) == "integer" and type(value) == "userdata" and not inherited[value] then
            local meta = getmetatable(value)
            if meta == request then has_request = true elseif metas[meta] then handles[#handles + 1] = value end
        end
    end
    return handles, has_request
end

--- In a child process, before anything else.
local function on_fork()
    due = 0
    for key, value in pairs(debug.getregistry()) do
        local meta = math.type(key) == "integer" and type(value) == "userdata" and getmetatable(value)
        if meta and (meta == request or metas[meta]) then inherited[value] = true end
    end
end

local function is_alive(uv)
    local handles, has_request = everything()
    if has_request then return true end
    for _, h in ipairs(handles) do
        if uv.is_closing(h) or uv.is_active(h) and uv.has_ref(h) then return true end
    end
    return false
end

-- ---- the functions that are other ones -------------------------------------------------------

local waker = setmetatable({}, { __close = function() runs:wake() end })

local function run_callback(f, ...)
    local _ <close> = waker
    called = called + 1
    due = due - 1
    f(...)
end

local function on_callback(f, ...)
    due = due + 1
    co.spawn(run_callback, f, ...)
end

local own = {} -- luv's functions as they were

local run_modes = { default = true, once = true, nowait = true }

--- uv.run([mode]) -> whether there is still something to wait for
local function run(mode)
    if mode == nil then mode = "default" end
    if not run_modes[mode] then
        error(("bad argument #1 to 'run' (invalid option '%s')"):format(tostring(mode)), 2)
    end
    if mode == "nowait" then core.sleep(0) end
    local stop, call = stopped, called
    while mode ~= "nowait" and stopped == stop and (due > 0 or is_alive(own)) do
        if mode == "once" and called > call then break end
        runs:wait()
    end
    return is_alive(own)
end

local function stop()
    stopped = stopped + 1
    runs:wake()
end

local function walk(callback)
    for _, h in ipairs((everything())) do callback(h) end
end

--- Handles end without a callback, or with this one: whoever runs looks again.
local function waking(f)
    return function(...)
        local results = table.pack(f(...))
        runs:wake()
        return table.unpack(results, 1, results.n)
    end
end

local function closing(f)
    return function(handle, callback)
        return f(handle, function(...)
            if callback then callback(...) end
        end)
    end
end

--- The loop may have slept for long, and its idea of the time be an old one.
local function timing(uv, f)
    return function(...)
        uv.update_time()
        return f(...)
    end
end

-- ---- the end of a state ----------------------------------------------------------------------

-- lua_close calls finalizers from the newest to the oldest, and luv's free what the loop still closes.
-- So there is always a guard that is newer than all of luv's handles; it closes them first.
local guard
local TURNS = 1000 -- of the loop, a millisecond each, for requests that are under way

local function close_all(self)
    if self ~= guard then return end
    for _, h in ipairs((everything())) do
        if not own.is_closing(h) then own.close(h) end
    end
    for _ = 1, TURNS do
        local handles, has_request = everything()
        if #handles == 0 and not has_request then break end
        core.luv_turn()
    end
end

local guard_meta = { __gc = close_all }

local function arming(f)
    return function(...)
        local results = table.pack(f(...))
        guard = setmetatable({}, guard_meta)
        return table.unpack(results, 1, results.n)
    end
end

--- Puts replacements, by name of a function of the module, there and in the handles' methods.
local function replace(uv, replacements)
    local instead = {}
    for name, f in pairs(replacements) do
        if uv[name] then instead[uv[name]], uv[name] = f, f end
    end
    for meta in pairs(metas) do
        local methods = type(meta.__index) == "table" and meta.__index or {}
        for name, f in pairs(methods) do methods[name] = instead[f] or f end
    end
end

local adapted = {} -- module -> true

local function adapt(uv)
    adapted[uv] = true
    for name, f in pairs(uv) do own[name] = f end
    find_metas()
    local replacements = {
        run = run, stop = stop, walk = walk,
        loop_alive = function() return is_alive(own) end,
        loop_close = function() return nil, "EBUSY: resource busy or locked", "EBUSY" end,
        close = closing(own.close),
    }
    for name, f in pairs(own) do
        if type(f) == "function" and name ~= "stop" and (name:find "stop$" or name == "unref") then
            replacements[name] = waking(f)
        end
    end
    for name, f in pairs(own) do
        if type(f) == "function" and (name:find "^new_" or name:find "^fs_" or name == "spawn") then
            replacements[name] = replacements[name] or arming(f)
        end
    end
    for _, name in ipairs { "timer_start", "timer_again", "now" } do replacements[name] = timing(own, own[name]) end
    replace(uv, replacements)
    return uv
end

-- ---- luv with a loop of its own --------------------------------------------------------------

--- Makes uv.run wait for luv's loop like any other call: its callbacks run while somebody is in there.
---@param uv table the module
---@return table uv
function luv.bridge(uv)
    if adapted[uv] then return uv end
    adapted[uv] = true
    local run_once, stop_own = uv.run, uv.stop
    local stops = 0
    function uv.stop()
        stops = stops + 1
        stop_own()
    end
    function uv.run(mode)
        if mode == "nowait" then return run_once(mode) end
        local before = stops
        local more = run_once "nowait"
        while more and stops == before do
            local ms = uv.backend_timeout()
            core.poll({ uv.backend_fd() }, {}, ms and ms >= 0 and ms / 1000 or nil)
            more = run_once "nowait"
            if mode == "once" then break end
        end
        return more
    end
    return uv
end

-- ---- loading ---------------------------------------------------------------------------------

--- What loads luv, for package.searchers: nil when it is not installed.
---@return function?
---@return string?
function luv.loader()
    local path = package.searchpath("luv", package.cpath)
    if not path then return nil end
    return function()
        local uv = core.luv_open(path, on_callback, on_fork)
        if uv then return adapt(uv) end
        local open = assert(package.loadlib(path, "luaopen_luv"))
        return luv.bridge(open "luv")
    end, path
end

return luv

--- Tells the service manager that started the program (systemd, Type=notify) when it is ready and
--- when it stops, and that its tasks run (WatchdogSec=). Without such a manager nothing is done.
---
--- Only the first process of a program tells: its children have the same variables.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local check = require "mpengine.check"
local process = require "mpengine.process"

local notify = {}

local BEATS = 2 -- in the time after which the manager takes the program for dead

local refused -- was it reported that the socket cannot be used?

local function refuse(why)
    if not refused then core.report(2, "the service manager cannot be told (NOTIFY_SOCKET): " .. why) end
    refused = true
    return nil, why
end

--- Sends it whole. While the manager has not read what was sent before, the task waits.
local function write(fd, text)
    while true do
        local last, why = core.fd_write(fd, text)
        if last then return true end
        if why ~= "again" then return refuse(why) end
        core.wait_fd(fd, "w")
    end
end

--- Sends lines NAME=value to the manager. Suspends only the task.
---@param text string
---@return true? done; nil also when there is no manager, or this is a child
---@return string? why
function notify.send(text)
    local name = os.getenv "NOTIFY_SOCKET"
    if not name or name == "" or process.parent_process() then return nil, "no manager" end
    local fd, why = core.notify_open(name)
    if not fd then return refuse(why) end
    local closed <close> = setmetatable({}, { __close = function() core.fd_close(fd) end }) -- luacheck: ignore 211
    return write(fd, text)
end

--- Seconds from one sign of life to the next, or nil when none is wanted of this process.
local function period()
    local wanted = math.tointeger(tonumber(os.getenv "WATCHDOG_USEC"))
    local pid = os.getenv "WATCHDOG_PID"
    if not wanted or wanted < 1 or pid and tonumber(pid) ~= process.current_process().pid then return nil end
    return wanted / 1e6 / BEATS
end

-- A task that gives signs of life until it is killed; nil when none are wanted.
local function start_beats()
    local seconds = period()
    return seconds and require "mpengine.co.every"(seconds, notify.send, "WATCHDOG=1")
end

local Told = {}
Told.__index = Told

function Told:close() self.beat:kill() end

Told.__close = Told.close

--- The program is ready. Until the result is closed the manager gets its signs of life.
---@param status string one line, for people
---@return table? to be closed
function notify.ready(status)
    if not notify.send("READY=1\nSTATUS=" .. core.escaped(status)) then return nil end
    local beat = start_beats()
    return beat and setmetatable({ beat = beat }, Told)
end

--- The program ends.
function notify.stopping() notify.send "STOPPING=1" end

-- ---- mp.notify ----

local function is_boolean(v) return type(v) == "boolean" end

local known = {
    ready = { is_boolean, "a boolean" }, reloading = { is_boolean, "a boolean" },
    stopping = { is_boolean, "a boolean" }, status = { function(v) return type(v) == "string" end, "a string" },
}

local beats -- the task, once a script is ready

--- Tells the service manager the state of the program. From ready = true on it gets its signs of life, until
--- the main chunk ends. Suspends only the task.
---@param state mpengine.NotifyState
---@return true? done
---@return string? why
function notify.notify(state)
    check.type("notify", 1, state, "table")
    check.settings("notify", state, known)
    local lines = {}
    local function add(line) lines[#lines + 1] = line end
    if state.ready then add "READY=1" end
    if state.reloading then add(("RELOADING=1\nMONOTONIC_USEC=%d"):format(core.now() * 1000000 // 1 | 0)) end
    if state.stopping then add "STOPPING=1" end
    if state.status then add("STATUS=" .. core.escaped(state.status)) end
    local done, why = notify.send(table.concat(lines, "\n"))
    if done and state.ready and not beats then beats = start_beats() end
    return done, why
end

return notify

--- mp.get_logger and mp.log_to_stderr: lines with time, level, process and pid; and the text alone for
--- the log of a host.
local core = require "mpengine.core"
local check = require "mpengine.check"
local errors = require "mpengine.errors"

local log = {}

local NAMES = { [10] = "DEBUG", [20] = "INFO", [30] = "WARNING", [40] = "ERROR", [50] = "CRITICAL" }
local LEVELS = { debug = 10, info = 20, warning = 30, error = 40, critical = 50 }

local shown -- are lines written to stderr?
local level -- the least, nil: WARNING on stderr, and all of them in the log of a host

-- MPE_LOG_ERROR, WARNING, INFO and DEBUG
local function host_level(at) return at >= 40 and 1 or at >= 30 and 2 or at >= 20 and 3 or 4 end

local Logger = { __name = "mp.logger" }
Logger.__index = Logger

local function check_self(self, call)
    if getmetatable(self) ~= Logger then check.bad_self("Logger:" .. call, "mp.logger", self) end
end

local function check_level(call, value)
    local n = type(value) == "string" and LEVELS[string.lower(value)] or value
    if type(n) == "number" then return n end
    check.wrong(call, 1, string.format("debug, info, warning, error, critical or a number expected, got %s",
        type(value) == "string" and "'" .. value .. "'" or check.kind(value)))
end

local function write(call, at, text, ...)
    local shows, logs = shown and at >= (level or 30), core.has_log() and at >= (level or at)
    if not (shows or logs) then return end
    if select("#", ...) > 0 then
        if type(text) ~= "string" then check.fail(call, call == "Logger:log" and 2 or 1, "string", text) end
        text = errors.at(1, string.format, text, ...)
    end
    text = tostring(text)
    if logs then core.report(host_level(at), text) end
    if not shows then return end
    local now = core.wall_time()
    core.write_error(string.format("%s.%03d %s %s[%d] %s\n", os.date("%Y-%m-%d %H:%M:%S", now // 1 | 0),
        (now % 1 * 1000) // 1 | 0, NAMES[at] or tostring(at), core.process_name(), core.pid(), text))
end

--- Writes a line when its level is shown. Further arguments are for string.format.
function Logger:log(at, text, ...)
    check_self(self, "log")
    write("Logger:log", check_level("Logger:log", at), text, ...)
end

for name, number in pairs(LEVELS) do
    Logger[name] = function(self, text, ...)
        check_self(self, name)
        write("Logger:" .. name, number, text, ...)
    end
end

--- Sets the lowest level that is shown, or logged by a host.
function Logger:set_level(value)
    check_self(self, "set_level")
    level = check_level("Logger:set_level", value)
end

function Logger:get_level()
    check_self(self, "get_level")
    return level or 30
end

local logger = setmetatable({}, Logger)

--- The logger of this process. Nothing is written before log_to_stderr, but the log of a host gets it all.
function log.get_logger()
    return logger
end

--- Makes the logger write to standard error, here and in processes started later.
---@param at? string|number the least level to show
function log.log_to_stderr(at)
    if at ~= nil then level = check_level("log_to_stderr", at) end
    shown = true
    return logger
end

--- For a child: the level, nil when nothing is shown.
function log.shown_level()
    return shown and (level or 30) or nil
end

return log

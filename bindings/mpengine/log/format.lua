--- A record of the log as text: one line for people, or an object of JSON. A record has time (seconds
--- since 1970), level (a number), level_name, name (of the logger), message, process and pid.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local errors = require "mpengine.errors"
local json = require "mpengine.json"

local format = {}

local NAMES <const> = { [10] = "DEBUG", [20] = "INFO", [30] = "WARNING", [40] = "ERROR", [50] = "CRITICAL" }

--- The name of a level, or its number.
function format.level_name(level) return NAMES[level] or tostring(level) end

-- A value as text, also one whose __tostring raises.
local function shown(value)
    local good, text = errors.attempt(tostring, value)
    return good and text or "(a " .. type(value) .. ")"
end

--- The text of a call's arguments: string.format(text, ...), and if these do not fit, the text as it
--- is, with a note. Never raises.
---@return string
function format.message(text, ...)
    local n = select("#", ...)
    if n == 0 then return shown(text) end
    local good, result = errors.attempt(string.format, text, ...)
    if good then return result end
    local values = table.pack(...)
    for i = 1, n do values[i] = shown(values[i]) end
    local why = string.gsub(errors.message(result), "^[^\n]-:%d+: ", "", 1)
    return ("%s (not formatted: %s; arguments: %s)"):format(shown(text), why, table.concat(values, ", "))
end

--- The process, the logger and the message.
local function source_of(record)
    local name = record.name ~= "" and record.name .. ": " or ""
    return ("%s[%d] %s%s"):format(record.process, record.pid, name, record.message)
end
format.short = source_of

local function milliseconds(time) return (time % 1 * 1000) // 1 | 0 end

function format.text(record)
    return ("%s.%03d %s %s"):format(os.date("%Y-%m-%d %H:%M:%S", record.time // 1 | 0), milliseconds(record.time),
        record.level_name, source_of(record))
end

local JSON <const> = '{"time":"%s.%03dZ","level":%s,"logger":%s,"process":%s,"pid":%d,"message":%s}'

function format.json(record)
    return JSON:format(os.date("!%Y-%m-%dT%H:%M:%S", record.time // 1 | 0), milliseconds(record.time),
        json.quote(record.level_name), json.quote(record.name), json.quote(record.process), record.pid,
        json.quote(record.message))
end

return format

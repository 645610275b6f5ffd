--- mp.get_logger and mp.log_to_stderr: loggers by dotted names, with levels and handlers.
---
--- A record goes to the handlers of its logger and of those above it ("a.b", "a", ""), to the log of
--- a host, to standard error after log_to_stderr, and to the process above if that has handlers
--- (log/collect.lua).
local core = require "mpengine.core"
local check = require "mpengine.check"
local collect = require "mpengine.log.collect"
local format = require "mpengine.log.format"
local handlers = require "mpengine.log.handlers"

local log = {}

local LEVELS = { debug = 10, info = 20, warning = 30, error = 40, critical = 50 }
local WARNING <const> = 30

local shown -- are lines written to stderr?
local nodes = {} -- by name: { name, above, logger, level, handlers, is_apart }
local count = 0 -- handlers of this process

-- MPE_LOG_ERROR, WARNING, INFO and DEBUG
local function host_level(at) return at >= 40 and 1 or at >= 30 and 2 or at >= 20 and 3 or 4 end

--- An object that can be sent: what it stands for in a process is the node of its name.
---@class mpengine.Logger
---@field name string
local Logger = { __name = "mp.logger" }
Logger.__index = Logger
core.register("mpengine.log:Logger", Logger)

function Logger.__eq(a, b) return getmetatable(a) == getmetatable(b) and a.name == b.name end

function Logger:__tostring() return self.name ~= "" and "mp.logger: " .. self.name or "mp.logger" end

local function check_self(self, call)
    if getmetatable(self) ~= Logger then check.bad_self("Logger:" .. call, "mp.logger", self) end
end

--- The number of a level; nil and what is there instead, for a message.
local function number_of(value)
    local n = type(value) == "string" and LEVELS[string.lower(value)] or value
    if type(n) == "number" and n == n then return n end
    return nil, type(value) == "string" and "'" .. value .. "'" or check.kind(value)
end

local function check_level(call, value)
    local n, got = number_of(value)
    if n then return n end
    check.wrong(call, 1, ("debug, info, warning, error, critical or a number expected, got %s"):format(got))
end

local function level_of(call, value)
    local n, got = number_of(value)
    if n then return n end
    error(("%s: field 'level' must be debug, info, warning, error, critical or a number, got %s"):format(call, got))
end

local function node_of(name)
    local node = nodes[name]
    if node then return node end
    local above = name ~= "" and node_of(string.match(name, "^(.*)%.[^.]*$") or "") or nil
    node = { name = name, above = above, logger = setmetatable({ name = name }, Logger) }
    nodes[name] = node
    return node
end

local root = node_of ""

--- The level of a node, or of the nearest one above it that has one; nil when none has.
local function effective(node)
    while node and not node.level do node = node.above end
    return node and node.level
end

-- One may close itself.
local function handlers_of(node) return ipairs(node.handlers and { table.unpack(node.handlers) } or {}) end

-- A logger that is apart, here or in the process of the record, is the last whose handlers get it.
local function handle(node, record)
    while node do
        for _, handler in handlers_of(node) do handlers.write(handler, record) end
        if node.is_apart then record.top = node.name end
        if record.top == node.name then return end
        node = node.above
    end
end

local function process_name()
    local process = core.modules["mpengine.process"]
    return process and process.name() or core.process_name()
end

local function record_of(name, at, message)
    return {
        time = core.wall_time(), level = at, level_name = format.level_name(at), name = name, message = message,
        process = process_name(), pid = core.pid(),
    }
end

local function write(self, at, text, ...)
    local node = node_of(self.name)
    local level = effective(node)
    local logs = core.has_log() and at >= (level or at)
    local wanted = at >= (level or WARNING)
    local shows = wanted and shown
    local handles = wanted and (count > 0 or collect.has_upstream())
    if not (shows or logs or handles) then return end
    local message = format.message(text, ...)
    local prefix = self.name ~= "" and self.name .. ": " or ""
    if logs then core.report(host_level(at), prefix .. message) end
    if not (shows or handles) then return end
    local record = record_of(self.name, at, message)
    if shows then core.write_error(format.text(record) .. "\n") end
    if not handles then return end
    handle(node, record)
    collect.send(record)
end

--- Writes a record when its level is shown. Further arguments are for string.format.
function Logger:log(at, text, ...)
    check_self(self, "log")
    write(self, check_level("Logger:log", at), text, ...)
end

for name, number in pairs(LEVELS) do
    Logger[name] = function(self, text, ...)
        check_self(self, name)
        write(self, number, text, ...)
    end
end

--- Sets the lowest level that is shown, or logged by a host; nil: that of the logger above.
function Logger:set_level(value)
    check_self(self, "set_level")
    node_of(self.name).level = value ~= nil and check_level("Logger:set_level", value) or nil
end

function Logger:get_level()
    check_self(self, "get_level")
    return effective(node_of(self.name)) or WARNING
end

--- false: the handlers of the loggers above get no records of this one and of those below it.
---@param on boolean
function Logger:set_propagate(on)
    check_self(self, "set_propagate")
    check.type("Logger:set_propagate", 1, on, "boolean")
    node_of(self.name).is_apart = not on or nil
end

---@return boolean
function Logger:get_propagate()
    check_self(self, "get_propagate")
    return not node_of(self.name).is_apart
end

local function take(record)
    handle(node_of(record.name), record)
    collect.send(record)
end

-- What is to be said of the log itself goes to every handler.
local function note(text)
    local record = record_of("", LEVELS.error, text)
    for _, node in pairs(nodes) do
        for _, handler in handlers_of(node) do handlers.write(handler, record) end
    end
    collect.send(record)
end

--- Adds a place where the records of this logger, and of those below it, go; also those of processes
--- that are started later.
---@param options mpengine.HandlerOptions
function Logger:add_handler(options)
    check_self(self, "add_handler")
    local handler = handlers.new("Logger:add_handler", options, level_of)
    collect.begin(take, note)
    local node = node_of(self.name)
    node.handlers = node.handlers or {}
    table.insert(node.handlers, handler)
    count = count + 1
    function handler.owner(closed)
        for i = #node.handlers, 1, -1 do
            if node.handlers[i] == closed then table.remove(node.handlers, i) end
        end
        count = count - 1
    end
    return handler
end

--- The logger of a name, the same one at each call; without a name the one above all. Nothing is
--- written before log_to_stderr or add_handler, but the log of a host gets it all.
---@param name? string
function log.get_logger(name)
    if name == nil then return root.logger end
    check.type("get_logger", 1, name, "string")
    return node_of(name).logger
end

--- Makes the loggers write to standard error, here and in processes started later.
---@param at? string|number the least level to show
function log.log_to_stderr(at)
    if at ~= nil then root.level = check_level("log_to_stderr", at) end
    shown = true
    return root.logger
end

--- Takes the records of children that have ended.
log.rest = collect.rest

--- For a child in a new program: the levels, and where its records go; and there, those.
function log.settings()
    local levels, apart = {}, {}
    for name, node in pairs(nodes) do levels[name], apart[name] = node.level, node.is_apart end
    return { shown = shown, levels = levels, apart = apart, place = collect.place() }
end

function log.become(settings)
    shown = settings.shown
    for name, level in pairs(settings.levels) do node_of(name).level = level end
    for name in pairs(settings.apart) do node_of(name).is_apart = true end
    if settings.place then collect.connect(settings.place) end
end

return log

--- Where records of the log go: standard error, a file, the system's log, a function. Each kind is
--- made from its options and has write(self, line, record).
---
--- A handler never raises. What goes wrong in it is reported once, until it works again.
local core = require "mpengine.core"
local _ENV <const> = core.globals -- luacheck: ignore
local check = require "mpengine.check"
local errors = require "mpengine.errors"
local format = require "mpengine.log.format"

local handlers = {}

local KEEP <const> = 5 -- old files
local LONGEST <const> = 65000 -- bytes for syslog

-- The priorities of syslog.
local function priority(level)
    return level >= 50 and 2 or level >= 40 and 3 or level >= 30 and 4 or level >= 20 and 6 or 7
end

-- ---- standard error ----

local function write_stderr(_, line) core.write_error(line .. "\n") end

-- ---- a file ----

local function must(good, why)
    if not good then error(why, 0) end
    return good
end

local function write_file(self, line) must(core.logfile_write(self.file, line)) end

-- ---- the system's log ----

-- A text ends at a zero there, and a datagram has a bound.
local function write_syslog(self, line, record)
    line = line:gsub("\0", "\\0")
    if #line > LONGEST then line = ("%s (cut: %d bytes)"):format(line:sub(1, LONGEST), #line) end
    core.syslog(self.ident, priority(record.level), line)
end

local function write_journal(self, line, record)
    core.journal {
        "MESSAGE=" .. line, "PRIORITY=" .. priority(record.level), "SYSLOG_IDENTIFIER=" .. self.ident,
        "LOGGER=" .. record.name, "PROCESS_NAME=" .. record.process, "PROCESS_PID=" .. record.pid,
    }
end

-- ---- a function ----

-- What the function logs itself does not come to it.
local function write_function(self, line, record)
    local task = core.current()
    if self.callers[task] then return end
    self.callers[task] = true
    local good, err = pcall(self.call, record, line)
    self.callers[task] = nil
    if not good then error(err, 0) end
end

-- ---- all of them ----

local KINDS <const> = {
    stderr = { write = write_stderr }, syslog = { write = write_syslog, form = format.short },
    journald = { write = write_journal, form = function(record) return record.message end },
}

local FORMS <const> = { text = format.text, json = format.json }

local function is_text(v) return type(v) == "string" and v ~= "" and not v:find("\0", 1, true) end
local function is_count(v) return math.type(v) == "integer" and v >= 0 end

local known = {
    to = { function(v) return KINDS[v] or check.is_callable(v) end, "'stderr', 'syslog', 'journald' or a function" },
    file = { is_text, "a path" },
    max_bytes = { function(v) return is_count(v) and v > 0 end, "an integer, 1 or more" },
    keep = { is_count, "an integer, 0 or more" },
    ident = { is_text, "a string" },
    format = { function(v) return FORMS[v] or check.is_callable(v) end, "'text', 'json' or a function" },
    level = { function() return true end },
}

---@class mpengine.Handler
local Handler = { __name = "mp.handler" }
Handler.__index = Handler

local function open_file_or_journal(self, options)
    if options.file then self.file = must(core.logfile(options.file, options.max_bytes or 0, options.keep or KEEP)) end
    if options.to == "journald" then core.journal() end
end

--- A handler of these options. level_of(value) checks a level.
function handlers.new(call, options, level_of)
    check.type(call, 1, options, "table")
    check.settings(call, options, known)
    if (options.to == nil) == (options.file == nil) then error(call .. ": one of 'to' and 'file' is needed") end
    local kind = KINDS[options.to] or options.file and { write = write_file } or { write = write_function }
    local form = options.format
    local self = setmetatable({
        put = kind.write, form = FORMS[form] or form or kind.form or format.text, pid = core.pid(),
        level = options.level ~= nil and level_of(call, options.level) or nil,
        ident = options.ident or "mpengine", call = options.to, callers = {},
    }, Handler)
    -- What is not there is an error here, and not at each record.
    local good, why = pcall(open_file_or_journal, self, options)
    if not good then error(call .. ": " .. errors.message(why)) end
    return self
end

local function write(self, record)
    local good, line = errors.attempt(self.form, record)
    if not good or type(line) ~= "string" then
        local why = good and "no string but " .. check.kind(line) or errors.message(line)
        line = format.text(record) .. (" (not formatted: %s)"):format(why)
    end
    self.put(self, line, record)
end

--- Writes a record, if it is of its level.
function handlers.write(self, record)
    if self.pid ~= core.pid() or self.level and record.level < self.level then return end
    local good, why = errors.attempt(write, self, record)
    if not good and not self.is_broken then
        core.write_error(("mpengine: a handler of the log failed: %s\n"):format(errors.message(why)))
    end
    self.is_broken = not good
end

--- Takes it from its logger. What was written stays.
function Handler:close()
    if getmetatable(self) ~= Handler then check.bad_self("Handler:close", "mp.handler", self) end
    if self.owner then self.owner(self) end
    self.owner = nil
    if self.file then core.logfile_close(self.file) end
    self.file = nil
end

return handlers

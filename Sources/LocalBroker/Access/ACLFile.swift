/// Rules that say which clients may publish and subscribe to what, in the form that mosquitto's users know.
///
/// ```
/// # Clients without a user name, up to the first section.
/// topic read public/#
///
/// user alice
/// topic readwrite home/#
/// topic deny home/safe/#
///
/// clientid gateway-7
/// topic write telemetry/7/+
///
/// # For every client; %c is its client identifier, %u its user name.
/// pattern readwrite devices/%c/#
/// ```
///
/// One rule a line: `topic` or `pattern`, then `read` (to subscribe), `write` (to publish), `readwrite` or `deny`, which may
/// be left out for `readwrite`, then a topic filter up to the line's end. A filter with spaces, or one that is itself one of
/// these words, needs its right written out. Lines that begin with `#` are comments.
///
/// - `topic` rules before the first section are for clients without a user name. Behind `user NAME` they are for clients
///   of that user, behind `clientid NAME` for those of that client identifier, up to the next section.
/// - `pattern` rules are for every client wherever they stand. A name with `+`, `#` or `/` in it, or none, makes one that
///   allows match nothing, and one that denies match every name.
/// - All rules that are for a client count together; their order does not matter. **What a `deny` rule matches is denied,
///   whatever else allows it. What is not denied is allowed if a rule allows it. All else is denied.**
/// - A subscription is allowed if one `read` rule covers every topic it asks for and no `deny` rule matches any of them.
///   For a shared subscription the filter behind the group's name counts.
public struct ACLFile: Sendable {
    private enum Right: String, Sendable, CaseIterable {
        case read
        case write
        case readwrite
        case deny
    }

    private struct Rule: Sendable {
        var right: Right
        var filter: [UInt8]
    }

    private enum Section {
        case anonymous
        case user(UserName)
        case client(UserName)
    }

    private var anonymous: [Rule] = []
    private var users: [UserName: [Rule]] = [:]
    private var clients: [UserName: [Rule]] = [:]
    private var patterns: [Rule] = []

    /// No rules: everything is denied.
    public init() {}

    /// Reads the text of a file.
    ///
    /// - Throws: `AccessFileError` with the number of the first line that is wrong.
    public init(_ text: String) throws(AccessFileError) {
        var section = Section.anonymous
        for (index, row) in text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline).enumerated() {
            let line = Self.trimmed(row)
            if line.isEmpty || line.hasPrefix("#") { continue }
            do throws(AccessFileError) {
                try self.read(line, &section)
            } catch {
                throw AccessFileError(line: index + 1, error.reason)
            }
        }
    }

    private mutating func read(_ line: Substring, _ section: inout Section) throws(AccessFileError) {
        let (keyword, rest) = Self.firstWord(line)
        switch keyword {
        case "user", "clientid":
            guard !rest.isEmpty else { throw AccessFileError("'\(keyword)' without a name") }
            section = keyword == "user" ? .user(UserName(String(rest))) : .client(UserName(String(rest)))
        case "topic":
            let rule = try Self.rule(rest)
            guard TopicRules.isPlainFilter(rule.filter) else {
                throw AccessFileError("not a topic filter: '\(String(decoding: rule.filter, as: UTF8.self))'")
            }
            switch section {
            case .anonymous: self.anonymous.append(rule)
            case .user(let name): self.users[name, default: []].append(rule)
            case .client(let name): self.clients[name, default: []].append(rule)
            }
        case "pattern":
            let rule = try Self.rule(rest)
            guard TopicPattern.isValid(rule.filter) else {
                throw AccessFileError("not a topic filter: '\(String(decoding: rule.filter, as: UTF8.self))'")
            }
            self.patterns.append(rule)
        default:
            throw AccessFileError("'\(keyword)' is neither 'user', 'clientid', 'topic' nor 'pattern'")
        }
    }

    private static func rule(_ text: Substring) throws(AccessFileError) -> Rule {
        let (word, rest) = Self.firstWord(text)
        guard !text.isEmpty else { throw AccessFileError("a rule without a topic filter") }
        if let right = Right(rawValue: String(word)) {
            guard !rest.isEmpty else { throw AccessFileError("'\(word)' without a topic filter") }
            return Rule(right: right, filter: Array(rest.utf8))
        }
        // A right that is misspelt must not become a part of the filter and allow what it was to deny.
        guard rest.isEmpty else {
            let rights = Right.allCases.map { "'\($0.rawValue)'" }.joined(separator: ", ")
            throw AccessFileError("'\(word)' is none of \(rights); a filter with spaces needs its right written out")
        }
        return Rule(right: .readwrite, filter: Array(word.utf8))
    }

    private static func isSpace(_ character: Character) -> Bool { character == " " || character == "\t" }

    private static func trimmed(_ text: Substring) -> Substring {
        var text = text.drop(while: Self.isSpace)
        while let last = text.last, Self.isSpace(last) { text.removeLast() }
        return text
    }

    private static func firstWord(_ text: Substring) -> (Substring, rest: Substring) {
        let word = text.prefix { !Self.isSpace($0) }
        return (word, text[word.endIndex...].drop(while: Self.isSpace))
    }

    /// Compiles the rules for one client.
    ///
    /// - Parameter grant: rights that came with its credentials. They take the place of all rules that allow; rules that
    ///   deny go on to count.
    func rules(clientID: String, userName: String?, grant: TopicGrant?) -> TopicRules {
        var rules = TopicRules()
        let names = (client: Array(clientID.utf8), user: userName.map { Array($0.utf8) })
        let topics =
            (userName.map { self.users[UserName($0)] ?? [] } ?? self.anonymous)
            + (self.clients[UserName(clientID)] ?? [])
        for rule in topics { Self.add(rule.filter, rule.right, to: &rules, allows: grant == nil) }
        for rule in self.patterns {
            let filter = TopicPattern.filter(
                rule.filter,
                clientID: names.client,
                userName: names.user,
                isDeny: rule.right == .deny
            )
            if let filter { Self.add(filter, rule.right, to: &rules, allows: grant == nil) }
        }
        guard let grant else { return rules }
        func filter(_ text: String) -> [UInt8]? {
            TopicPattern.filter(Array(text.utf8), clientID: names.client, userName: names.user, isDeny: false)
        }
        for case let filter? in grant.publish.map(filter) { rules.publish.append(filter) }
        for case let filter? in grant.subscribe.map(filter) { rules.subscribe.append(filter) }
        return rules
    }

    private static func add(_ filter: [UInt8], _ right: Right, to rules: inout TopicRules, allows: Bool) {
        switch right {
        case .deny: rules.denied.append(filter)
        case .read where allows: rules.subscribe.append(filter)
        case .write where allows: rules.publish.append(filter)
        case .readwrite where allows:
            rules.subscribe.append(filter)
            rules.publish.append(filter)
        case .read, .write, .readwrite: break
        }
    }
}

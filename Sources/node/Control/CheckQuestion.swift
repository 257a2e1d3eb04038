import Cluster
import Gossip

/// Do all members hold the same of what they share? The answer is what `node check --json` prints; docs/operations.md
/// describes it.
struct CheckQuestion: ControlQuestion {
    static let command = "check"

    /// How many of something are as they should be.
    struct Tally: Codable, Equatable, Sendable {
        var good: Int
        var all: Int
    }

    struct Difference: Codable, Equatable, Sendable {
        enum Kind: String, Codable, CaseIterable, Sendable {
            case silent, unlinked, unknown, link, behind, table, retained
        }

        var kind: Kind
        /// Where it is.
        var node: String
        /// The other member that it is about.
        var other: String?
        /// What differs, in words.
        var message: String
        /// Of a replica, and of the table that it should equal.
        var table: LinksSection.Table?
        var otherTable: LinksSection.Table?

        enum CodingKeys: String, CodingKey {
            case kind, node, other, message, table
            case otherTable = "other_table"
        }
    }

    struct Answer: Codable, Equatable, Sendable {
        /// The node that was asked.
        var node: String
        var isEqual: Bool
        var members: Tally
        var links: Tally
        var tables: Tally
        var retained: Tally
        var retainedMessages: UInt64
        /// At most `differencesMax`.
        var differences: [Difference]
        var differencesCount: Int

        enum CodingKeys: String, CodingKey {
            case node
            case isEqual = "equal"
            case members, links, tables, retained
            case retainedMessages = "retained_messages"
            case differences
            case differencesCount = "differences_count"
        }
    }

    /// Told one by one; of more than that only the number.
    static let differencesMax = 500
}

extension CheckQuestion.Answer {
    /// - Parameter members: those of the ring; nodes among them that take no links cannot be asked.
    init(node: String, _ check: ClusterCheck, members: [Member]) {
        let withoutLinks = members.filter(\.isDunlinWithoutLinks).map { member in
            CheckFinding.unlinked(member.name, reason: LinksSection.linkPortIsOff)
        }
        let findings = withoutLinks + check.findings
        let tallies = check.tallies
        self.node = node
        // Of a node that has just stopped there is not even its own report.
        self.isEqual = findings.isEmpty && tallies.members.good > 0
        self.members = CheckQuestion.Tally(tallies.members, andBad: withoutLinks.count)
        self.links = CheckQuestion.Tally(tallies.links)
        self.tables = CheckQuestion.Tally(tallies.replicas)
        self.retained = CheckQuestion.Tally(tallies.retained)
        self.retainedMessages = check.retainedCount
        self.differences = findings.prefix(CheckQuestion.differencesMax).map {
            CheckQuestion.Difference($0, asked: node)
        }
        self.differencesCount = findings.count
    }

    /// For people. Some of it comes from other nodes.
    var text: String {
        let counts = TextTable.render([
            ["members", "\(self.members.text) answered"],
            ["links", "\(self.links.text) are open"],
            ["tables", "\(self.tables.text) copies of subscriptions are equal"],
            ["retained", "\(self.retained.text) nodes have the same \(self.retainedMessages) messages"],
        ])
        guard !self.isEqual else { return counts + "\nNothing differs.\n" }
        let parts = CheckQuestion.Difference.Kind.allCases.map { kind in
            let messages = self.differences.filter { $0.kind == kind }.map { "\n\($0.message.escaped)" }
            return messages.isEmpty ? "" : messages.joined() + "\n  \(kind.advice)\n"
        }
        let omitted = self.differencesCount - self.differences.count
        return counts + parts.joined() + (omitted > 0 ? "\nand \(omitted) more\n" : "")
    }
}

extension CheckQuestion.Tally {
    fileprivate init(_ tally: ClusterCheck.Tally, andBad bad: Int = 0) {
        self.good = tally.good
        self.all = tally.all + bad
    }

    fileprivate var text: String { "\(self.good) of \(self.all)" }
}

extension CheckQuestion.Difference {
    private init(_ kind: Kind, at node: String, with other: String? = nil, _ message: String) {
        self.kind = kind
        self.node = node
        self.other = other
        self.message = message
    }

    /// - Parameter asked: the node that was asked, from whose members and links all begins.
    fileprivate init(_ finding: CheckFinding, asked: String) {
        switch finding {
        case .silent(let name):
            self.init(.silent, at: name, "\(name) does not answer")
        case .unlinked(let name, let reason):
            let why = reason.map { ": \($0)" } ?? ""
            self.init(
                .unlinked,
                at: name,
                with: asked,
                "\(name) cannot be asked, since \(asked) has no link to it\(why)"
            )
        case .stranger(let name, let holder):
            self.init(
                .unknown,
                at: asked,
                with: name,
                "\(asked) does not know the member \(name), which \(holder) knows"
            )
        case .unknown(let name, let holder):
            self.init(.unknown, at: holder, with: name, "\(holder) does not know the member \(name)")
        case .otherLife(let name, let holder, let epoch):
            let message = "\(holder) knows another start of \(name), with boot epoch \(epoch)"
            self.init(.unknown, at: holder, with: name, message)
        case .linkDown(let opener, let called, let reason):
            let why = reason.isEmpty ? "" : ": \(reason)"
            self.init(.link, at: opener, with: called, "the link from \(opener) to \(called) is not open\(why)")
        case .table(let owner, let holder, let replica, let own):
            self.init(replica, of: owner, at: holder, insteadOf: own)
        case .retained(let holder, let count, let buckets, let other, let otherCount):
            let message = """
                \(holder) does not have the same retained messages as \(other): it has \(count), the other \(otherCount), \
                and they differ in \(buckets) of \(LinkProtocol.retainedBuckets) parts
                """
            self.init(.retained, at: holder, with: other, message)
        }
    }

    private init(_ replica: TableState, of owner: String, at holder: String, insteadOf own: TableState) {
        let (table, otherTable) = (LinksSection.Table(replica), LinksSection.Table(own))
        let kind = replica.sequence == own.sequence ? Kind.table : .behind
        self.init(
            kind,
            at: holder,
            with: owner,
            "\(holder) has of \(owner)'s table \(table.line); it is \(otherTable.line)"
        )
        self.table = table
        self.otherTable = otherTable
    }
}

extension CheckQuestion.Difference.Kind {
    /// What to do about it.
    fileprivate var advice: String {
        switch self {
        case .silent: "Look at its host and its log: it hangs, is overloaded, or is of a release without this command."
        case .unlinked:
            "\"node status\" on the node that was asked shows its links. Run \"node check\" on the other one too."
        case .unknown: "Compare \"node members\" on both. If it stays so, the network between the two is broken."
        case .link: "See the logs of both, and whether the first reaches the link port of the other."
        case .behind:
            "If it stays so though the link to the node is open, restart the node that has the copy: it gets it anew."
        case .table:
            "A wrong copy is replaced within seconds. If it stays so, restart the node that has it, and report a bug."
        case .retained:
            "Nodes send each other what they lack. If it stays so, see on both the limit \"retained\" in \"node status\"."
        }
    }
}

extension LinksSection.Table {
    fileprivate init(_ state: TableState) {
        self.init(state.sequence, Int(clamping: state.count), state.digest)
    }

    fileprivate var line: String { "\(self.text), digest \(self.digest)" }
}
